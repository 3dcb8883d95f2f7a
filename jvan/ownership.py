"""Who may write a file, and files that are opened without following a link. For caches that several people share."""

from __future__ import annotations

import errno
import os
import stat

LINK = "is a link, and links are not followed here; remove it"
NO_FILE = "is no regular file; remove it"


def is_trusted(path) -> bool:
    """Whether a file (or folder) and the folder that it lies in can only have been written by this user or root.

    Both belong to this user or root, and neither may be written by everybody. A link counts as what it is: no file.
    False where nothing is there; True for everything on systems without owners (Windows).
    """
    if not hasattr(os, "getuid"):
        return os.path.lexists(path)
    try:
        file, folder = os.lstat(path), os.stat(os.path.dirname(os.path.abspath(path)))
    except OSError:
        return False
    return not stat.S_ISLNK(file.st_mode) and all(map(_only_ours, (file, folder)))


def _only_ours(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.getuid()) and not status.st_mode & stat.S_IWOTH


def open_unlinked(path, mode: str = "rb", permissions: int = 0o666, **options):
    """`open`, but OSError (ELOOP, EINVAL) where the last part of the path is a link or is no regular file.

    The parts above may be links. A pipe is refused without waiting for its other end.
    """

    def opener(name, flags):
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        return _regular(os.open(name, flags & ~os.O_TRUNC, permissions), name, flags)

    refuse_link(path)  # a clear reason; a link that is put there now is met by O_NOFOLLOW
    return open(path, mode, opener=opener, **options)


def open_lock(path):
    """A file to lock, made where it is missing. One that another user has left behind may only be read, and serves as well."""
    try:
        return open_unlinked(path, "ab")
    except PermissionError:
        if not os.path.lexists(path):
            raise
        return open_unlinked(path, "rb")


def _regular(descriptor: int, name, flags: int) -> int:
    """The descriptor of a regular file, which is emptied only now where `flags` ask for it."""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, NO_FILE, os.fspath(name))
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
        return descriptor
    except BaseException:
        os.close(descriptor)
        raise


def refuse_link(path) -> None:
    """OSError (ELOOP), with a fix, where the last part of this path is a link."""
    if os.path.islink(path):
        raise OSError(errno.ELOOP, LINK, os.fspath(path))


def make_private_folder(path) -> None:
    """The folder and those above it, where they are missing, for this user alone (0700); those that are there stay as they are."""
    path = os.path.abspath(path)
    if os.path.isdir(path):
        return
    make_private_folder(os.path.dirname(path))
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:  # another process was quicker, or a file lies there
        if not os.path.isdir(path):
            raise
