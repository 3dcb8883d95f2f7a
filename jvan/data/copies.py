"""What is known of unpacked copies: which archive each is of, kept beside it or in the user's own cache."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from .._say import say
from ..files import NOT_OTHERS, lock, name_digest, own_cache_dir, replaced
from ..ownership import is_trusted, make_private_folder, open_unlinked

if TYPE_CHECKING:  # the doctor reads this where a Python lacks lzma
    from .archive import Archive

LONGEST = 1 << 16  # bytes of a record
MOST_SEEN = 16


@dataclass(frozen=True)
class Record:
    """A copy that was compared with its archive, or made from it.

    `seen`: inode, ctime and mtime of the archive whenever it was looked at and was the same: machines that share a disk may
    see other ones. `folder`: device and inode of the folder that it lies in. `stamp`: size, inode, ctime and mtime of the copy.
    """

    archive: str
    size: int
    ends: str
    whole: str
    folder: list
    seen: list
    copy: str
    stamp: list

    def is_of(self, archive: Archive) -> bool:
        """Whether this archive, as it lies there now, was looked at already."""
        return (self.archive, self.size) == (archive.real, archive.size) and archive.seen in self.seen

    def needs_whole(self, archive: Archive) -> bool:
        """Whether the archive was touched, so that its ends are too little; some network disks number files anew."""
        return archive.seen[1:] not in [seen[1:] for seen in self.seen]

    @property
    def is_left(self) -> bool:
        """Whether the archive is gone for certain. Where its folder is not there either, a disk may just be away."""
        try:
            above = os.stat(os.path.dirname(self.archive))
        except OSError:
            return False
        return not os.path.lexists(self.archive) and [above.st_dev, above.st_ino] == self.folder


def stamp_of(file) -> list:
    """Of an open file or a path: what changes when it is written or replaced."""
    status = os.stat(file if isinstance(file, (str, os.PathLike)) else file.fileno())
    return [status.st_size, status.st_ino, status.st_ctime_ns, status.st_mtime_ns]


def records_of(copy: str) -> list[Record]:
    """What may be believed about a copy; nothing for one that was never checked, or has changed since.

    A record beside it counts where nobody but its maker, who is this user or root, can have written either. Of any other
    copy, and where that record cannot be changed, it is this user's own.
    """
    found = []
    with contextlib.suppress(OSError):
        stamp = stamp_of(copy)
        beside = _read(_beside(copy)) if is_trusted(copy) else None
        found += [beside] if beside and beside.stamp[0] == stamp[0] else []
        own = _read(_own(copy))
        found += [own] if own and own.copy == os.path.realpath(copy) and own.stamp == stamp else []
    return found


def note(archive: Archive, copy: str, stamp: list, earlier: Record | None = None) -> None:
    """Note that `copy`, whose stamp this is, holds what `archive` unpacks to; a line is printed where that cannot be written."""
    whole, seen = (earlier.whole, earlier.seen) if earlier else (archive.whole, [])
    seen = [*seen, archive.seen][-MOST_SEEN:]
    record = Record(
        archive.real, archive.size, archive.ends, whole, archive.folder, seen, os.path.realpath(copy), stamp
    )
    places = [_beside(copy)] if is_ours(copy) and is_trusted(copy) else []
    for place in (*places, _own(copy)):
        with contextlib.suppress(OSError):
            make_private_folder(place.parent)
            with replaced(place, follow=False, permissions=NOT_OTHERS) as part:
                part.write_text(json.dumps(asdict(record)), encoding="ascii")
            return
    say(f"{own_folder()} cannot be written: {copy} is compared with its archive again at the next start")


def open_copy(copy: str, stamp: list):
    """The copy, opened and held; None where it is another file than the one of this stamp, whose ctime a new name changes."""
    try:
        file = open_unlinked(copy, "rb")
    except FileNotFoundError:
        return None
    size, inode, _, mtime = stamp_of(file)
    if is_trusted(copy) or [size, inode, mtime] == [stamp[0], stamp[1], stamp[3]]:
        hold(file)
        return file
    file.close()
    return None


def hold(file) -> None:
    """Keep an open copy from being removed by another process, as long as it is open."""
    lock(file, shared=True, wait=False)


def is_ours(path) -> bool:
    """Whether a file belongs to this user."""
    return not hasattr(os, "getuid") or os.lstat(path).st_uid == os.getuid()


def forget(copy: str) -> None:
    """Remove what is kept about a copy."""
    for place in (_beside(copy), _own(copy)):
        with contextlib.suppress(OSError):
            place.unlink()


def own_folder() -> Path:
    """Where this user's records of other people's copies are."""
    return own_cache_dir() / "data" / "checked"


def _beside(copy: str) -> Path:
    return Path(f"{copy}.json")


def _own(copy: str) -> Path:
    return own_folder() / f"{name_digest(os.path.realpath(copy))}.json"


def _read(place: Path) -> Record | None:
    if not is_trusted(place):
        return None
    try:
        with open_unlinked(place) as file:
            document = json.loads(file.read(LONGEST))
        good = all(type(document[each.name]).__name__ == each.type for each in fields(Record))
        return Record(**document) if good and len(document["stamp"]) == 4 else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
