"""The unfinished file of a download, FILE.part, and what is noted of it in FILE.part.json.

Somebody else may be able to write the folder that they lie in. So neither is reached through a link, and what this
user did not make is thrown away and never written to or gone on with.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from pathlib import Path

from ...files import NOT_OTHERS, replaced
from ...ownership import open_unlinked

NOT_OURS = "was replaced while it was written; choose a folder that nobody else may write"


class Partial:
    """The .part file of `target`, with `mark` in its name; `size()` and `left_over()` see it only where it is ours."""

    def __init__(self, target: Path, mark: str = ""):
        self.name = target.name
        self.path = target.with_name(f"{target.name}{mark}.part")
        self._note = self.path.with_name(self.path.name + ".json")
        # On a network disk that gives what we make to another user these two know it all the same.
        self._made: tuple[int, int] | None = None
        self._noted: dict | None = None

    def size(self) -> int:
        """The bytes that are there to go on from."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return 0
        return status.st_size if self._is_ours(status) else 0

    def open(self, start: int):
        """The file to write from byte `start` on, unbuffered; for 0 a new one. OSError where it cannot be had."""
        file = open_unlinked(self.path, "r+b", buffering=0) if start else self._new()
        if not self._is_ours(os.fstat(file.fileno())):
            file.close()
            raise OSError(errno.EPERM, NOT_OURS, os.fspath(self.path))
        file.truncate(start)
        file.seek(start)
        return file

    def _new(self):
        self.path.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self.path, flags, 0o664)
        made = os.fstat(descriptor)
        self._made = made.st_dev, made.st_ino
        return open(descriptor, "r+b", buffering=0)

    def left_over(self, url: str) -> tuple[int, str]:
        """(bytes, validator) of an earlier attempt that this address can be asked to go on with, else (0, "")."""
        note = self._noted or self._read_note()
        with contextlib.suppress(KeyError, TypeError):
            if note["url_sha256"] == _hash(url) and isinstance(note["validator"], str) and note["validator"]:
                return self.size(), note["validator"]
        return 0, ""

    def note(self, url: str, validator: str) -> None:
        """Keep what this is a part of: the address as a hash, since it may hold a mirror's token."""
        self._noted = {"url_sha256": _hash(url), "validator": validator}
        with replaced(self._note, follow=False, permissions=NOT_OTHERS) as part:
            part.write_text(json.dumps(self._noted), encoding="utf-8")

    def forget(self) -> None:
        """Remove both."""
        self._noted = None
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _read_note(self):
        try:
            with open_unlinked(self._note, "r", encoding="utf-8") as file:
                return json.loads(file.read(1 << 16)) if _is_own(os.fstat(file.fileno())) else None
        except (OSError, ValueError):
            return None

    def _is_ours(self, status: os.stat_result) -> bool:
        return _is_own(status) or (_alone(status) and (status.st_dev, status.st_ino) == self._made)


def _is_own(status: os.stat_result) -> bool:
    """A file of this user that nobody else can write: of one name, and closed to everybody."""
    if not hasattr(os, "getuid"):
        return _alone(status)
    return _alone(status) and status.st_uid == os.getuid() and not status.st_mode & stat.S_IWOTH


def _alone(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _hash(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
