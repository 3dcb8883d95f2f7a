"""Unpacked copies that no archive stands behind any more: removed where that is certain, and listed where it is not."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .._say import say
from ..files import PART, cache_dir, lock, own_cache_dir
from ..ownership import open_unlinked
from .copies import forget, is_ours, records_of

if TYPE_CHECKING:
    from .archive import Archive

HOUR = 3600  # seconds
COPY = re.compile(r".*-[0-9a-f]{16}(-[0-9a-f]{16})?\.tar", re.S)  # one number in 0.1.0
HALF = re.compile(COPY.pattern + r"\.[0-9a-f]+" + re.escape(PART), re.S)


class Leftover(NamedTuple):
    """A file of this user's in a cache that nothing may need any more, its size in bytes, and why it is taken for one."""

    path: str
    size: int
    why: str


def remove(copy: str) -> bool:
    """Remove a copy of this user's that no process reads, and what is kept about it; whether that was done."""
    try:
        with open_unlinked(copy, "r+b") as file:
            if not lock(file, wait=False, must=True):
                return False
            os.unlink(copy)
    except OSError:
        return False
    forget(copy)
    with contextlib.suppress(OSError):
        os.unlink(f"{copy}.lock")
    return True


def remove_older(archive: Archive, folder: Path, kept: str) -> None:
    """Remove this user's copies in `folder` of what lay at the archive's path before, and of archives that are gone."""
    for copy in _copies(folder):
        for record in records_of(copy) if copy != kept else ():
            if record.archive == archive.real or record.is_left:
                if remove(copy):
                    say(f"removed {copy}: its archive has changed or is gone")
                break


def leftovers() -> list[Leftover]:
    """This user's files in the caches that `remove_older` leaves since it cannot be certain."""
    found = []
    for folder in dict.fromkeys((cache_dir() / "data", own_cache_dir() / "data")):
        for copy in _copies(folder):
            why = _why(copy)
            found += [Leftover(copy, os.lstat(copy).st_size, why)] if why else []
        for part in _ours(folder, HALF):
            if time.time() - os.lstat(part).st_mtime > HOUR:
                found.append(Leftover(part, os.lstat(part).st_size, "half unpacked"))
    return found


def _why(copy: str) -> str:
    records = records_of(copy)
    if not records:
        return "it is not known which archive it is of"
    archive = records[0].archive
    if not os.path.lexists(archive):
        return f"{archive} is not there"
    return ""


def _copies(folder: Path) -> list[str]:
    return _ours(folder, COPY)


def _ours(folder: Path, name: re.Pattern) -> list[str]:
    """Files of this user's that have names which jvan gives: whoever sets JVAN_CACHE may have others there."""
    found = []
    with contextlib.suppress(OSError):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if name.fullmatch(entry.name) and entry.is_file(follow_symlinks=False) and is_ours(entry.path):
                found.append(entry.path)
    return found
