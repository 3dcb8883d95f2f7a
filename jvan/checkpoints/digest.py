"""The SHA-256 of weights files."""

from __future__ import annotations

import hashlib


def sha256_of(files) -> str:
    """The hash of one file (a Path), in hexadecimal; of several, the hash of what sha256sum prints for them."""
    sums = [(_sha256(file), file.name) for file in files]
    if len(sums) == 1:
        return sums[0][0]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for digest, name in sums).encode()).hexdigest()


def sha256_of_open(file) -> str:
    """The hash of a file that is open for reading, from where it stands to its end."""
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(1 << 20), b""):
        digest.update(chunk)
    return digest.hexdigest()


def _sha256(path) -> str:
    with open(path, "rb") as file:
        return sha256_of_open(file)
