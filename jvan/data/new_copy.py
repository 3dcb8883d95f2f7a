"""An archive unpacked into the cache, as far as there is room."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from pathlib import Path

from .. import files
from .._say import say
from ..errors import DataError
from ..files import NOT_OTHERS, PART, temporary
from ..ownership import make_private_folder, open_lock, open_unlinked
from .archive import Archive
from .copies import is_ours, note, open_copy, stamp_of

KEPT = 256 << 20  # bytes of a disk that stay free; of a small one a twentieth


SMALLEST = 512  # bytes of a tar file
BETWEEN = 64 << 20  # bytes between two looks at the disk
MAX_RATIO, FREE_RATIO = 200, 1 << 30  # pictures shrink little: a small file that unpacks to gigabytes is a trap


def unpacked(archive: Archive, target: str):
    """The archive's copy at `target`, newly made and opened; DataError where there is no room for it."""
    folder = Path(target).parent
    say(f"unpacking {archive.path} to {target}, once")
    for stale in folder.glob(f".{glob.escape(Path(target).name[:100])}.*{PART}"):  # of a process that was killed
        with contextlib.suppress(OSError):
            if is_ours(stale):
                stale.unlink()
    with temporary(Path(target), NOT_OTHERS) as part:
        with open_unlinked(part, "r+b") as out:
            _write(archive, out, folder)
            stamp = stamp_of(out)
        os.replace(part, target)
    file = open_copy(target, stamp)
    if file is None:
        raise DataError(f"{target}: somebody else has just replaced it; name another folder in JVAN_CACHE")
    note(archive, target, stamp_of(file))
    return file


def _write(archive: Archive, out, folder: Path) -> None:
    limit, allowed = max(FREE_RATIO, MAX_RATIO * archive.size), disk_allowed(folder)
    if allowed < archive.size:
        raise _full(archive, folder, f"holds {archive.size >> 20:,} MiB", max(0, allowed))
    for chunk in archive.content():
        out.write(chunk)
        if out.tell() > limit:
            raise DataError(
                f"{archive.path}: unpacks to more than {MAX_RATIO} times its size; it is unsafe and not read"
            )
        if out.tell() % BETWEEN < len(chunk) and disk_allowed(folder) < BETWEEN:
            raise _full(archive, folder, f"unpacks to more than {out.tell() >> 20:,} MiB", allowed)
    if out.tell() < SMALLEST:
        raise DataError(f"{archive.path}: holds no tar file; compress a tar file, or give a folder")
    out.flush()
    os.fsync(out.fileno())


def _full(archive: Archive, folder: Path, what: str, allowed: int) -> DataError:
    return DataError(
        f"{archive.path} {what}, and {allowed >> 20:,} MiB may be written to {folder} before its disk is nearly full; "
        "make room, or name another folder in JVAN_CACHE"
    )


def disk_allowed(folder) -> int:
    """Bytes that may be written into a folder before its disk is as full as it may become; negative where it is fuller."""
    disk = shutil.disk_usage(folder)
    return disk.free - min(KEPT, disk.total // 20)


@contextlib.contextmanager
def locked(path):
    """Hold a lock that processes of one or several users share; OSError where its file is a link, or cannot be made."""
    with open_lock(path) as lock:
        files.lock(lock)
        yield


@contextlib.contextmanager
def locked_if_possible(path: Path):
    """The same in the user's own cache, or nothing where that cannot be written."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            make_private_folder(path.parent)
            stack.enter_context(locked(path))
        yield
