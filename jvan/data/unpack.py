"""A compressed tar file as an uncompressed one in the cache, made once, so that members can be read in any order."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

from ..errors import DataError
from ..files import NOT_OTHERS, PART, cache_dir, own_cache_dir, temporary
from ..ownership import is_trusted, make_private_folder, open_unlinked
from .allowance import disk_allowed
from .archive import Archive
from .copies import Record, is_ours, own_folder, records_of, remember, stamp_of
from .decompress import kind_of
from .leftovers import hold, remove, remove_older

try:
    import fcntl
except ImportError:  # Windows: whoever comes second unpacks once more, and the first file is replaced by an equal one
    fcntl = None

BLOCK = 512
BETWEEN = 64 << 20  # bytes between two looks at the disk
MAX_RATIO, FREE_RATIO = 200, 1 << 30  # pictures shrink little: a small file that unpacks to gigabytes is a trap


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
        _make(folder)
        target = str(folder / archive.copy_name)
        with _locked(f"{target}.lock"):
            file = _known(archive, folder) or _looked_at(archive, folder) or _unpacked(archive, target)
    remove_older(archive, folder, file.name)
    return file


def _at_its_path(archive: Archive, folder: Path) -> list[str]:
    """Copies of what lies, or lay, at the archive's path."""
    return [*map(str, folder.glob(f"*-{archive.place}-*.tar"))]


def _known(archive: Archive, folder: Path):
    """A copy that was made from this archive, or compared with it, as both are now; else None."""
    for copy in (*_at_its_path(archive, folder), str(folder / archive.copy_name_of_0_1)):
        for record in records_of(copy):
            file = _opened(copy, record.stamp) if record.is_of(archive) else None
            if file is not None:
                return file
    return None


def _looked_at(archive: Archive, folder: Path):
    """A copy of what lies at the archive's path, after a look at both, since they may have changed; else None."""
    for copy in (str(folder / archive.copy_name), str(folder / archive.copy_name_of_0_1)):
        if not os.path.lexists(copy):
            continue
        with _locked_if_possible(own_folder() / f"{archive.place}.lock"):
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
                _say(f"{archive.path} was touched since it was unpacked; looking whether it is the same, once")
                if archive.whole != record.whole:
                    continue
            file = _opened(copy, record.stamp)
            if file is not None:
                _remember(archive, copy, record.stamp, record)
                return file
    return None


def _compared(archive: Archive, copy: str):
    """The copy, if it holds what the archive unpacks to; one of 0.1.0 gets its new name."""
    if records_of(copy):
        return None  # of other bytes
    file = open_unlinked(copy, "rb")
    hold(file)
    before = stamp_of(file)
    _say(f"comparing {copy} with {archive.path}, once, since it is not known who made it")
    same = all(file.read(len(chunk)) == chunk for chunk in archive.content()) and not file.read(1)
    if not same or stamp_of(file) != before:
        file.close()
        return None
    file.close()
    if is_ours(copy):
        copy = _renamed(copy, os.path.join(os.path.dirname(copy), archive.copy_name))
    file = _opened(copy, before)
    if file is not None:
        _remember(archive, copy, stamp_of(file))
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
        _say(f"{copy} is not what {archive.path} unpacks to; it is made anew")
        remove(copy)
    elif os.path.basename(copy) == archive.copy_name:
        raise DataError(
            f"{copy}: is not what {archive.path} unpacks to, and belongs to another user; have it removed, or name "
            "another folder in JVAN_CACHE"
        )


def _opened(copy: str, stamp: list):
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


def _unpacked(archive: Archive, target: str):
    """The copy, newly made."""
    folder = Path(target).parent
    _say(f"unpacking {archive.path} to {target}, once")
    for stale in folder.glob(f".{Path(target).name[:100]}.*{PART}"):  # of a process that was killed
        with contextlib.suppress(OSError):
            stale.unlink()
    with temporary(Path(target), NOT_OTHERS) as part:
        with open_unlinked(part, "r+b") as out:
            _write(archive, out, folder)
            stamp = stamp_of(out)
        os.replace(part, target)
    file = _opened(target, stamp)
    if file is None:
        raise DataError(f"{target}: somebody else has just replaced it; name another folder in JVAN_CACHE")
    _remember(archive, target, stamp_of(file))
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
    if out.tell() < BLOCK:
        raise DataError(f"{archive.path}: holds no tar file; compress a tar file, or give a folder")
    out.flush()
    os.fsync(out.fileno())


def _full(archive: Archive, folder: Path, what: str, allowed: int) -> DataError:
    return DataError(
        f"{archive.path} {what}, and {allowed >> 20:,} MiB may be written to {folder} before its disk is nearly full; "
        "make room, or name another folder in JVAN_CACHE"
    )


def _remember(archive: Archive, copy: str, stamp: list, earlier: Record | None = None) -> None:
    if not remember(archive, copy, stamp, earlier):
        _say(f"{own_folder()} cannot be written: {copy} is compared with its archive again at the next start")


def _make(folder: Path) -> None:
    """The user's own cache for this user alone; what JVAN_CACHE names as the umask says."""
    if cache_dir() == own_cache_dir():
        make_private_folder(folder)
    else:
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _locked(path):
    with open_unlinked(path, "ab") as lock:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _locked_if_possible(path: Path):
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            make_private_folder(path.parent)
            stack.enter_context(_locked(path))
        yield


def _say(message: str) -> None:
    print(message, file=sys.stderr)
