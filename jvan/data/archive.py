"""A compressed archive as it lies on the disk, and by what it is known again."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from ..errors import DataError
from ..files import name_digest
from .decompress import CHUNK, decompressed

ENDS = 1 << 20


class Archive:
    """An archive at the moment of this call. OSError where it cannot be looked at."""

    def __init__(self, path: str, kind: str):
        self.path, self.kind, self.real = path, kind, os.path.realpath(path)
        status = os.stat(path)
        self.size, self._mtime = status.st_size, status.st_mtime_ns
        self.seen = [status.st_ino, status.st_ctime_ns, status.st_mtime_ns]
        above = os.stat(os.path.dirname(self.real))
        self.folder = [above.st_dev, above.st_ino]
        self.place = name_digest(self.real)

    @cached_property
    def ends(self) -> str:
        """A hash of the first and the last MiB.

        gzip, xz and bzip2 end with checks of what went before, so that other content has another end. Of an archive of
        several parts (`xz -T`, `pbzip2`) the end covers the last part alone: `whole` is then what differs.
        """
        total = hashlib.sha256()
        with open(self.path, "rb") as file:
            total.update(file.read(ENDS))
            file.seek(max(0, self.size - ENDS))
            total.update(file.read(ENDS))
        return total.hexdigest()

    @cached_property
    def whole(self) -> str:
        """A hash of all of it, kept from then on: `seen` is of before, so that a later change is noticed."""
        total = hashlib.sha256()
        with open(self.path, "rb") as file:
            for chunk in iter(lambda: file.read(CHUNK), b""):
                total.update(chunk)
        return total.hexdigest()

    def content(self):
        """Yield what it unpacks to, in pieces, and learn its hash on the way; DataError where it changes meanwhile."""
        total, hashing = hashlib.sha256(), None
        with open(self.path, "rb", buffering=0) as file, ThreadPoolExecutor(1) as other:

            def read(count: int) -> bytes:
                nonlocal hashing
                data = file.read(count)
                if hashing is not None:
                    hashing.result()
                hashing = other.submit(total.update, data)  # beside the unpacking, which it would slow down by a tenth
                return data

            yield from decompressed(read, self.kind, self.path)
            status = os.fstat(file.fileno())
        if (status.st_size, status.st_mtime_ns) != (self.size, self._mtime):
            raise DataError(f"{self.path}: changed while it was read; try again when it is complete")
        self.__dict__["whole"] = total.hexdigest()

    @property
    def copy_name(self) -> str:
        """Of its unpacked copy: where the archive lies, then what it is."""
        return f"{self._base[:40]}-{self.place}-{name_digest(f'{self.size} {self.ends}')}.tar"

    @property
    def copy_name_of_0_1(self) -> str:
        return f"{self._base}-{name_digest(f'{self.real}{chr(0)}{self.size}{chr(0)}{self._mtime}')}.tar"

    @property
    def _base(self) -> str:
        return os.path.basename(self.path).split(".")[0]
