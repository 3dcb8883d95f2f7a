"""Jittor's cache: made so that others cannot write there, tried, and looked through for what others may have put there.

Jittor loads and runs what it finds in its cache, and what it compiles has the rights that the umask leaves.
"""

from __future__ import annotations

import contextlib
import os
import stat

from .._say import say, warn
from .settings import BROKEN, MENDED, OK, SLOW, Finding, config_error, jittor_cache, user_cache

TRUST = "JVAN_TRUST_CACHE"
NAME = "rights"
CODE = (".so", ".dylib", ".py", ".pyc", "config.json")  # the last one says where the cache is
UMASK = "the umask lets everybody write what Jittor compiles"
ENTER, WRITE = stat.S_IXOTH, stat.S_IWOTH


def make(folder: str) -> None:
    """A folder of the cache and those above it, where they are missing. Nobody but the group gets a right to write there.

    Where the umask would let everybody write, the cache itself is closed to others: its libraries would be open.
    """
    if os.path.isdir(folder):
        return
    make(os.path.dirname(folder))
    try:
        os.mkdir(folder)
    except FileExistsError:  # another process was quicker, or a file lies there
        if not os.path.isdir(folder):
            raise
        return
    mode = stat.S_IMODE(os.stat(folder).st_mode)
    if mode & WRITE:
        with contextlib.suppress(OSError):  # `check_rights` tells of it
            os.chmod(folder, mode & (~0o007 if folder in _tops() else ~WRITE))


def check_cache() -> Finding:
    """Whether Jittor can write its cache: tried, as permissions alone do not tell (read-only disks, root)."""
    if config_error():
        path = os.path.join(user_cache(), "config.json")
        return Finding("cache", BROKEN, f"{path} cannot be read ({config_error()}), which stops Jittor", f"rm {path}")
    for folder in _tops():
        try:
            _try_to_write(folder)
        except OSError as error:
            fix = "make it writable, or set HOME to a folder that is"
            return Finding("cache", BROKEN, f"{folder} cannot be written ({error.strerror or error})", fix)
    return Finding("cache", OK, jittor_cache())


def _tops() -> list[str]:
    return list(dict.fromkeys((user_cache(), jittor_cache())))


def _try_to_write(folder: str) -> None:
    import tempfile

    make(folder)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"jvan")


def check_rights() -> Finding:
    """Refuse a cache that others can write or have written; take their right away where this user can.

    A group's right to write is told and not refused. Root is refused nothing, and nobody with JVAN_TRUST_CACHE=1.
    """
    if not hasattr(os, "getuid"):
        return Finding(NAME, OK, "this system has no owners of files")
    if os.environ.get(TRUST) == "1":
        return Finding(NAME, OK, f"not looked at, as {TRUST}=1 asks")
    tops = filter(os.path.isdir, _tops())  # what is missing, `check_cache` tells
    findings = [_of_root(top) if os.getuid() == 0 else _of_user(top) for top in tops]
    worse = [finding for finding in findings if finding.status != OK]
    return (worse or findings[-1:] or [Finding(NAME, OK, "no cache there yet")])[0]


def _of_root(top: str) -> Finding:
    """An administrator may have opened the cache on purpose; only what root itself would open now is closed."""
    status = os.stat(top)
    if status.st_uid == 0 and status.st_mode & (ENTER | WRITE) == ENTER and _umask_is_open():
        return _take_away(top, 0o007, UMASK)
    return Finding(NAME, OK, f"{top}: root is refused nothing")


def _of_user(top: str) -> Finding:
    above, status = os.path.dirname(top), os.stat(top)
    if _is_foreign(status):
        return _refused(f"{top} belongs to {_name(status.st_uid)}")
    if _anybody_may_replace(above):
        if os.stat(above).st_uid != os.getuid():
            return _refused(f"{above} can be written by everybody")
        found = _take_away(above, WRITE, f"{above} could be written by everybody")
        rest = _of_cache(top, status)
        return found if rest.status == OK else rest
    return _of_cache(top, status)


def _of_cache(top: str, status: os.stat_result) -> Finding:
    own, enters = status.st_uid == os.getuid(), status.st_mode & (ENTER | WRITE)
    opened = top if status.st_mode & WRITE else ""
    for path, found in _loaded(top):
        if _is_foreign(found):
            return _refused(f"{path} belongs to {_name(found.st_uid)}", f"rm -r {path}, ")
        if found.st_mode & WRITE and not stat.S_ISLNK(found.st_mode):
            opened = opened or path
    if own and enters and opened:
        return _take_away(top, 0o007, f"{opened} could be written by everybody")
    if own and enters and _umask_is_open():
        return _take_away(top, 0o007, UMASK)
    if enters and opened:
        return _refused(f"{opened} can be written by everybody")
    return Finding(NAME, OK, _group(top, status))


def _loaded(top: str):
    """(path, status) of each folder in a cache and of each file that Jittor loads or runs; of links, then of what they name."""
    waiting, seen, home = [top], set(), os.path.join(top, "jvan")
    while waiting:
        folder = waiting.pop()
        in_home = folder.startswith(home)  # its links lead to the machine's own CUDA, which is not looked at
        for entry in _entries(folder):
            with contextlib.suppress(OSError):  # removed meanwhile, or leads nowhere
                is_folder = entry.is_dir()
                if not (is_folder or in_home or _is_code(entry.name)):
                    continue
                status = entry.stat(follow_symlinks=False)
                yield entry.path, status
                if stat.S_ISLNK(status.st_mode):
                    status = os.stat(entry.path)
                    if in_home or (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                    yield entry.path, status
                if is_folder:
                    waiting.append(entry.path)


def _entries(folder: str) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # what cannot be read is not loaded either
        return []


def _is_code(name: str) -> bool:
    return name.endswith(CODE) or (".so." in name and not name.endswith(".key"))  # libdnnl.so.2, but not op.so.key


def _is_foreign(status: os.stat_result) -> bool:
    return status.st_uid not in (0, os.getuid())


def _anybody_may_replace(folder: str) -> bool:
    """Whether others can rename what lies in a folder."""
    return os.stat(folder).st_mode & (WRITE | stat.S_ISVTX) == WRITE


def _umask_is_open() -> bool:
    mask = os.umask(0o077)  # it cannot be read otherwise
    os.umask(mask)
    return not mask & WRITE


def _take_away(folder: str, rights: int, why: str) -> Finding:
    """Others' rights to your own folder; MENDED, or SLOW, with a warning, where that had no effect."""
    with contextlib.suppress(OSError):  # told below
        os.chmod(folder, stat.S_IMODE(os.stat(folder).st_mode) & ~rights)
    if os.stat(folder).st_mode & rights:
        what = f"{why}, and this file system lets nobody take that right away; Jittor runs what it finds there"
        fix = f"set HOME to another disk, or {TRUST}=1 if you trust everybody here"
        warn(f"{what}; to mend it: {fix}")
        return Finding(NAME, SLOW, what, fix)
    letters = "rwx" if rights == 0o007 else "w"
    line = f"{why}, and Jittor runs what it finds there; jvan has just run chmod o-{letters} {folder}"
    say(line)
    return Finding(NAME, MENDED, line)


def _refused(what: str, remove: str = "") -> Finding:
    fix = f"{remove}set HOME to a folder of your own, or {TRUST}=1 if you trust whoever can write there"
    return Finding(NAME, BROKEN, f"{what}, and Jittor would run what lies there", fix)


def _group(top: str, status: os.stat_result) -> str:
    if not status.st_mode & stat.S_IWGRP:
        return f"nobody but its owner and root can write {top}"
    import grp

    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = f"gid {status.st_gid}"
    return f"the group {group} can write {top}, from which Jittor runs code"


def _name(user: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(user).pw_name} (uid {user})"
    except KeyError:
        return f"uid {user}"
