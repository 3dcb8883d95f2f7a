"""Files that are whole or not there: written beside their place, flushed, and moved to it. And where caches lie."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import contextmanager
from pathlib import Path

from .ownership import make_private_folder

PART = ".part"
NOT_OTHERS = 0o664  # permissions: others may read what a cache holds, and write it under no umask


def cache_dir() -> Path:
    """$JVAN_CACHE, else the user's own. Several people may share what JVAN_CACHE names."""
    if os.environ.get("JVAN_CACHE"):
        return Path(os.path.expanduser(os.environ["JVAN_CACHE"]))
    return own_cache_dir()


def own_cache_dir() -> Path:
    """$XDG_CACHE_HOME/jvan, else ~/.cache/jvan, whatever JVAN_CACHE is."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / "jvan"


def make_cache_folder(folder: Path) -> None:
    """In the user's own cache for this user alone (0700); below JVAN_CACHE, which several may share, as the umask says."""
    if cache_dir() == own_cache_dir():
        make_private_folder(folder)
    else:
        folder.mkdir(parents=True, exist_ok=True)


def lock(file, *, shared: bool = False, wait: bool = True, must: bool = False) -> bool:
    """Lock an open file, or a folder's descriptor, until it is closed; False where another process has it and `wait` is False.

    Some systems and network file systems have no locks. There nothing is locked and the answer is True; with `must` it is an OSError.
    """
    try:
        import fcntl
    except ImportError:
        if must:
            raise OSError("this system has no locks") from None
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        if must:
            raise
    return True


@contextmanager
def temporary(path: Path, permissions: int = 0o666):
    """An empty file beside `path`, hidden, with its own name, that is gone afterwards, whatever happens."""
    place = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}{PART}")
    os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, permissions))
    try:
        yield place
    finally:
        place.unlink(missing_ok=True)


@contextmanager
def replaced(path, follow: bool = True, permissions: int = 0o666):
    """A file to write instead of `path`: it moves there when the block ends well, and else `path` is as before.

    A link at `path` leads to the file that is written; without `follow` the new file takes the link's place.
    An OSError on the way names `path`: a full disk is reported without a name, and the file beside it is not the user's.
    """
    path = _target(path) if follow else Path(path)
    with _named(path), temporary(path, permissions) as place:
        yield place
        flush(place)
        os.replace(place, path)


def check_writable(path) -> None:
    """Before long work: OSError where `replaced` will not be able to write `path`."""
    path = _target(path)
    with _named(path), temporary(path):
        pass


def _target(path) -> Path:
    """Through a link to the file that it names; OSError for a folder, a device or a pipe."""
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is no regular file; choose another name", os.fspath(path))
    return path


def flush(path: Path) -> None:
    """To the disk: a file's bytes, or a folder's names, so that they outlast a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path):
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = os.fspath(path), None
        raise


def name_digest(text: str) -> str:
    """Sixteen hexadecimal digits for a file's name."""
    import hashlib  # 3 ms, and only where there are archives

    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
