"""A new folder in the place of an old one, which is there at every moment where the system can exchange two names."""

from __future__ import annotations

import contextlib
import ctypes
import os

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE


def put(new: str, folder: str, scratch: str) -> None:
    """Move `new` to `folder`, an absolute path; what was there is left in the folder `scratch`. OSError, and then nothing has changed."""
    with _alone(os.path.dirname(folder)):
        if not os.path.lexists(folder):
            os.rename(new, folder)
        elif not _exchange(new, folder):
            old = os.path.join(scratch, "old")
            os.rename(folder, old)
            try:
                os.rename(new, folder)
            except BaseException:
                os.rename(old, folder)
                raise


@contextlib.contextmanager
def _alone(parent: str):
    """Hold the lock of a folder, which leaves no file behind."""
    import fcntl

    descriptor = os.open(parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _exchange(one: str, other: str) -> bool:
    """Let two names change places at one moment; False where the C library, the system or the file system cannot."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return bool(call) and call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0
