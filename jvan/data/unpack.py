"""A compressed tar file as an uncompressed one in the cache, made once, so that members can be read in any order."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import lzma
import os
import zlib

from .._say import tell
from ..checkpoints.weights_cache import cache_dir
from ..errors import DataError

try:
    import fcntl
except ImportError:  # Windows: whoever comes second unpacks once more, and the first file is replaced by an equal one
    fcntl = None

OPENERS = ((b"\x1f\x8b", gzip.open), (b"\xfd7zXZ\0", lzma.open), (b"BZh", bz2.open))
CHUNK = 1 << 20
MAX_RATIO, FREE_RATIO = 200, 1 << 30  # pictures shrink little: a small file that unpacks to gigabytes is a trap


def plain_tar(path: str) -> str:
    """`path` itself if it is an uncompressed tar file, else the cached uncompressed copy; DataError if it is neither."""
    try:
        with open(path, "rb") as file:
            head = file.read(BLOCK := 512)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{path}: {reason}; give a folder, a tar file, or CIFAR's own files") from None
    for mark, opener in OPENERS:
        if head.startswith(mark):
            return _cached(path, opener)
    if len(head) == BLOCK and head[257:262] == b"ustar":
        return path
    raise DataError(
        f"{path}: is no folder and no tar file (.tar, .tar.gz, .tar.xz, .tar.bz2); give a folder of pictures"
    )


def _cached(path: str, opener) -> str:
    status = os.stat(path)
    identity = f"{os.path.realpath(path)}\0{status.st_size}\0{status.st_mtime_ns}"
    key = hashlib.sha256(os.fsencode(identity)).hexdigest()[:16]
    folder = cache_dir() / "data"
    target = folder / f"{os.path.basename(path).split('.')[0]}-{key}.tar"
    try:
        if target.exists():
            return str(target)
        folder.mkdir(parents=True, exist_ok=True)
        with open(f"{target}.lock", "ab") as lock:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                for stale in folder.glob(f"{target.name}.*.part"):  # of a process that was killed
                    stale.unlink()
                _unpack(path, opener, str(target))
    except OSError as error:
        where = error.filename or target
        raise DataError(f"{where}: {error.strerror or error}; name a folder with room in JVAN_CACHE") from None
    return str(target)


def _unpack(path: str, opener, target: str) -> None:
    tell(f"unpacking {path} to {target}, once")
    part, limit = f"{target}.{os.getpid()}.part", max(FREE_RATIO, MAX_RATIO * os.path.getsize(path))
    try:
        with opener(path, "rb") as source, open(part, "wb") as out:
            for chunk in _chunks(path, source):
                out.write(chunk)
                if out.tell() > limit:
                    raise DataError(
                        f"{path}: unpacks to more than {MAX_RATIO} times its size; it is unsafe and not read"
                    )
            if out.tell() < 512:
                raise DataError(f"{path}: holds no tar file; compress a tar file, or give a folder")
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, target)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)


def _chunks(path: str, source):
    while True:
        try:
            chunk = source.read(CHUNK)
        except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path}: damaged or cut short ({error}); fetch it again") from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise DataError(f"{path}: damaged or cut short ({error}); fetch it again") from None  # bz2
        if not chunk:
            return
        yield chunk
