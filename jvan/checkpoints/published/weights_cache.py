"""Where downloaded weights are kept, and what is taken from there."""

from __future__ import annotations

from pathlib import Path

from ...errors import DownloadError
from ...files import cache_dir
from .catalogue import Entry
from .hash_record import examine, identity_of
from .verification import contradictions, is_proven, known_of, others, places, say_unverified, settle


def place(entry: Entry) -> Path:
    """Where this entry's file lies, or would; a folder an entry, since several files are called pytorch_model.bin."""
    return cache_dir() / entry.name / entry.file


def obtain(entry: Entry) -> Path:
    """The entry's file in the cache, downloaded unless it is there, verified as far as anybody publishes its hash.

    DownloadError where it cannot be had or is not the published file. Prints on stderr that a new file was compared
    with eight digits, and "unverified" where neither the catalogue, the file's name nor the hub gives a hash.
    """
    path = place(entry)
    if not path.is_file():
        from .fetch import fetch  # urllib and ssl take 40 ms, which a file that is there can do without

        if fetch(entry, path):
            return path
    return _accept(path, entry)


def _accept(path: Path, entry: Entry) -> Path:
    """A file that lies in the cache: as noted when it came, or else hashed again (put there by hand, touched)."""
    now = identity_of(path)
    known = known_of(entry, path, now)
    digest = next((record.sha256 for record in known if record.identity == now), None)
    noted = digest is not None
    if not noted:
        digest, now = examine(path)
    _refuse_another(path, entry, digest, known)
    proven = is_proven(entry, digest, known)
    if noted:
        say_unverified(entry, digest, proven)
    else:
        settle(entry, path, digest, proven, now)
    return path


def _refuse_another(path: Path, entry: Entry, digest: str, known: list) -> None:
    for _, value in contradictions(entry, digest):
        raise DownloadError(
            f"{path} is not the published file: its sha256 is {digest}, it should be {value}; delete it and try again"
        )
    changed = others(entry, digest, known)
    if changed:
        raise DownloadError(
            f"{path} has changed: its sha256 is {digest}, before it was {changed[0].sha256}; delete it and try again, "
            f"or, where the publisher has replaced the file, delete {places(changed)}"
        )
