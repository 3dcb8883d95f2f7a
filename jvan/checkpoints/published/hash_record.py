"""What is noted of a file whose hash was taken, so that the next start need not take it again, and when a note counts.

FILE.sha256.json lies beside a file that nobody but this user and root can have written. For every other file, such as
one in a folder that several people share, the note lies in the user's own cache. There, too, lies the hash with which
a published file came first, for files of which nobody publishes a whole hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from ...files import NOT_OTHERS, own_cache_dir, replaced
from ...ownership import is_trusted, make_private_folder, open_unlinked
from ..digest import sha256_of_open

FORMAT = 2  # 0.1.0's had no number
_IDENTITY = {"path": str, "size": int, "mtime_ns": int, "ctime_ns": int, "inode": int}


class Identity(NamedTuple):
    """Which file it is, and since when: whoever changes its bytes changes `ctime_ns`, which nobody can set back."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    def renamed_to(self, path: Path) -> Identity | None:
        """The same file under its new name; None where that is another file."""
        now = identity_of(path)
        same = (self.inode, self.size, self.mtime_ns) == (now.inode, now.size, now.mtime_ns)
        return now if same else None


class Record(NamedTuple):
    """A note that counts. `proven`: the whole hash is the published one, as the catalogue or the hub said.

    `identity` None: the file must be hashed again, since the note is of 0.1.0, or is of an earlier file.
    """

    place: Path
    sha256: str
    proven: bool
    identity: Identity | None


def identity_of(path: Path) -> Identity:
    """Of the file that a path leads to, through links."""
    return _identity(path, os.stat(path))


def examine(path: Path) -> tuple[str, Identity | None]:
    """A file's hash, and what it was taken of; None where the file changed meanwhile."""
    with open(path, "rb") as file:
        before = _identity(path, os.fstat(file.fileno()))
        digest = sha256_of_open(file)
        unchanged = before == _identity(path, os.fstat(file.fileno()))
    return digest, before if unchanged else None


def records_of(path: Path, now: Identity | None) -> list[Record]:
    """The notes of this file that count, of an earlier one as well; of `now`, where one is of it, that alone.

    `now` None: no file lies there, or it is not known which.
    """
    beside = _read(_beside(path)) if is_trusted(path) or not os.path.lexists(path) else []
    if beside and now is not None and beside[0].identity == now:
        return beside
    return beside + _read(_elsewhere(path))


def remember(path: Path, digest: str, proven: bool, identity: Identity) -> None:
    """Note a file's hash, for the next start; where nothing can be written the file is hashed at each."""
    document = {"format": FORMAT, "sha256": digest, "proven": proven, **identity._asdict()}
    if not (is_trusted(path) and _wrote(_beside(path), document)):
        _wrote_privately(_elsewhere(path), document)


def first_of(name: str) -> list[Record]:
    """The note of the hash with which this published file came first, if there is one."""
    return _read(_first(name))


def remember_first(name: str, digest: str, proven: bool) -> None:
    """Keep the hash with which a published file came, and that it was proven; nothing changes the hash later."""
    known = first_of(name)
    if not known or (proven and not known[0].proven and known[0].sha256 == digest):
        _wrote_privately(_first(name), {"format": FORMAT, "sha256": digest, "proven": proven})


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".sha256.json")


def _elsewhere(path: Path) -> Path:
    key = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()
    return own_cache_dir() / "hashes" / f"{key[:32]}.json"


def _first(name: str) -> Path:
    return own_cache_dir() / "hashes" / f"first-{name}.json"


def _identity(path: Path, status: os.stat_result) -> Identity:
    times = status.st_mtime_ns, status.st_ctime_ns
    return Identity(os.path.realpath(path), status.st_size, *times, status.st_ino)


def _read(place: Path) -> list[Record]:
    if not is_trusted(place):
        return []
    try:
        with open_unlinked(place, "r", encoding="utf-8") as file:
            document = json.loads(file.read(1 << 16))
        # 0.1.0 took any mirror's word for proof.
        proven = document["proven"] is True and document.get("format") == FORMAT
        if isinstance(document["sha256"], str):
            return [Record(place, document["sha256"], proven, _identity_in(document))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return []


def _identity_in(document: dict) -> Identity | None:
    parts = {key: document.get(key) for key in _IDENTITY}
    return Identity(**parts) if all(isinstance(parts[key], kind) for key, kind in _IDENTITY.items()) else None


def _wrote(place: Path, document: dict) -> bool:
    try:
        with replaced(place, follow=False, permissions=NOT_OTHERS) as part:
            part.write_text(json.dumps(document), encoding="utf-8")
        return True
    except OSError:
        return False


def _wrote_privately(place: Path, document: dict) -> None:
    with contextlib.suppress(OSError):  # a cache that may only be read
        make_private_folder(place.parent)
        _wrote(place, document)
