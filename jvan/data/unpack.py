"""A compressed tar file as an uncompressed one in the cache, made once, so that members can be read in any order."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from .._say import say
from ..errors import DataError
from ..files import cache_dir, make_cache_folder
from ..ownership import open_unlinked
from .archive import Archive
from .copies import hold, is_ours, note, open_copy, own_folder, records_of, stamp_of
from .decompress import kind_of
from .leftovers import remove, remove_older
from .new_copy import locked, locked_if_possible, unpacked

BLOCK = 512


def plain_tar(path: str):
    """An uncompressed tar file, opened: `path` itself if it is one, else its copy in the cache; DataError if it is neither.

    A copy that somebody else made, or may have changed, is compared with the archive before its first use.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(BLOCK)
        kind = kind_of(head)
        if kind is None and len(head) == BLOCK and head[257:262] == b"ustar":
            return open(path, "rb")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{path}: {reason}; give a folder, a tar file, or CIFAR's own files") from None
    if kind is None:
        raise DataError(
            f"{path}: is no folder and no tar file (.tar, .tar.gz, .tar.xz, .tar.bz2); give a folder of pictures"
        )
    try:
        return _copy(Archive(path, kind), cache_dir() / "data")
    except OSError as error:
        fix = "" if error.errno in (errno.ELOOP, errno.EINVAL) else "; name a folder with room in JVAN_CACHE"
        raise DataError(f"{error.filename or cache_dir()}: {error.strerror or error}{fix}") from None


def _copy(archive: Archive, folder: Path):
    """The archive's copy, opened and held."""
    file = _known(archive, folder)
    if file is None:
        file = _looked_at(archive, folder)
    elif len(_at_its_path(archive, folder)) == 1:
        return file
    if file is None:
        make_cache_folder(folder)
        target = str(folder / archive.copy_name)
        with locked(f"{target}.lock"):
            file = _known(archive, folder) or _looked_at(archive, folder) or unpacked(archive, target)
    remove_older(archive, folder, file.name)
    return file


def _at_its_path(archive: Archive, folder: Path) -> list[str]:
    """Copies of what lies, or lay, at the archive's path."""
    return [*map(str, folder.glob(f"*-{archive.place}-*.tar"))]


def _known(archive: Archive, folder: Path):
    """A copy that was made from this archive, or compared with it, as both are now; else None."""
    for copy in (*_at_its_path(archive, folder), str(folder / archive.copy_name_of_0_1)):
        for record in records_of(copy):
            file = open_copy(copy, record.stamp) if record.is_of(archive) else None
            if file is not None:
                return file
    return None


def _looked_at(archive: Archive, folder: Path):
    """A copy of what lies at the archive's path, after a look at both, since they may have changed; else None."""
    for copy in (str(folder / archive.copy_name), str(folder / archive.copy_name_of_0_1)):
        if not os.path.lexists(copy):
            continue
        with locked_if_possible(own_folder() / f"{archive.place}.lock"):
            file = _known(archive, folder) or _seen_again(archive, copy) or _compared(archive, copy)
        if file is not None:
            return file
        _give_up(copy, archive)
    return None


def _seen_again(archive: Archive, copy: str):
    """The copy, if it was made from the same bytes, though the archive was touched, moved back or copied since."""
    for record in records_of(copy):
        if (record.archive, record.size, record.ends) == (archive.real, archive.size, archive.ends):
            if record.needs_whole(archive):
                say(f"{archive.path} was touched since it was unpacked; looking whether it is the same, once")
                if archive.whole != record.whole:
                    continue
            file = open_copy(copy, record.stamp)
            if file is not None:
                note(archive, copy, record.stamp, record)
                return file
    return None


def _compared(archive: Archive, copy: str):
    """The copy, if it holds what the archive unpacks to; one of 0.1.0 gets its new name."""
    if records_of(copy):
        return None  # of other bytes
    file = open_unlinked(copy, "rb")
    hold(file)
    before = stamp_of(file)
    say(f"comparing {copy} with {archive.path}, once, since it is not known who made it")
    same = all(file.read(len(chunk)) == chunk for chunk in archive.content()) and not file.read(1)
    if not same or stamp_of(file) != before:
        file.close()
        return None
    file.close()
    place = _renamed(copy, os.path.join(os.path.dirname(copy), archive.copy_name)) if is_ours(copy) else copy
    file = open_copy(place, before)
    if file is not None:
        # what is written to it from now on changes the stamp, and so does a new name
        note(archive, place, before if place == copy else stamp_of(file))
    return file


def _renamed(copy: str, target: str) -> str:
    """A copy of 0.1.0 at its new name, where it can be moved there."""
    if copy != target and not os.path.lexists(target):
        with contextlib.suppress(OSError):
            os.rename(copy, target)
            os.unlink(f"{copy}.lock")
    return copy if os.path.lexists(copy) else target


def _give_up(copy: str, archive: Archive) -> None:
    """What is done with a copy that holds something else; DataError where somebody else's is in the way."""
    if is_ours(copy):
        say(f"{copy} is not what {archive.path} unpacks to; it is made anew")
        remove(copy)
    elif os.path.basename(copy) == archive.copy_name:
        raise DataError(
            f"{copy}: is not what {archive.path} unpacks to, and belongs to another user; have it removed, or name "
            "another folder in JVAN_CACHE"
        )
