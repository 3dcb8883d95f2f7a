"""Where pictures lie: a folder, an uncompressed tar file, or memory. All can be sent to another process."""

from __future__ import annotations

import os
import stat

import numpy as np
from PIL import Image

from ..errors import DataError, PictureError
from ..pictures.find import is_left_out
from ..pictures.read import MAX_BYTES, WHOLE, Reading
from .decode import decode
from .name_list import Names

DEEPEST = 12  # folders below folders; links could make it endless


class FolderStore:
    """Files below `root`; `names` are relative paths with "/" between their parts."""

    def __init__(self, root: str, names):
        self.root, self.names = os.path.abspath(root), Names(names)

    def name(self, row: int) -> str:
        return self._path(row)

    def picture(self, row: int, reading: Reading = WHOLE) -> Image.Image:
        return decode(self.read(row, MAX_BYTES), self.name(row), reading)

    def read(self, row: int, limit: int) -> bytes:
        """The file's bytes, at most `limit` and one more; PictureError where it cannot be read."""
        path = self._path(row)
        try:
            # A pipe among the files must not make the reader wait for its writer.
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
            with open(descriptor, "rb", buffering=0) as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise PictureError(f"{self.name(row)}: not a regular file")
                return file.read(min(os.fstat(descriptor).st_size, limit + 1))
        except OSError as error:
            raise PictureError(f"{self.name(row)}: {(error.strerror or str(error)).lower()}") from None

    def _path(self, row: int) -> str:
        return os.path.join(self.root, *self.names[row].split("/"))


class TarStore:
    """Members of an uncompressed tar file, read where they lie: nothing is unpacked, no member's name is ever a path."""

    def __init__(self, file, title: str, names, offsets, sizes):
        """`file` is open, and may be closed afterwards."""
        self.path, self.title, self.names = os.path.abspath(file.name), title, Names(names)
        self.offsets, self.sizes = np.asarray(offsets, np.int64), np.asarray(sizes, np.int64)
        self._descriptor = os.dup(file.fileno())
        self._file = _identity(self._descriptor)  # which no other file has while this process holds it open

    def name(self, row: int) -> str:
        return f"{self.title}:{self.names[row]}"

    def picture(self, row: int, reading: Reading = WHOLE) -> Image.Image:
        return decode(self.read(row, MAX_BYTES), self.name(row), reading)

    def read(self, row: int, limit: int) -> bytes:
        """The member's bytes, at most `limit` and one more; PictureError where the archive ends before."""
        wanted = min(int(self.sizes[row]), limit + 1)
        try:
            data = os.pread(self._opened(row), wanted, int(self.offsets[row]))
        except OSError as error:
            raise PictureError(f"{self.name(row)}: {(error.strerror or str(error)).lower()}") from None
        if len(data) != wanted:
            raise PictureError(f"{self.name(row)}: the archive was cut short while it was in use")
        return data

    def _opened(self, row: int) -> int:
        """The descriptor; in another process it is a new one of the same file."""
        if self._descriptor is None:
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            if _identity(descriptor) != self._file:
                os.close(descriptor)
                raise PictureError(f"{self.name(row)}: another file has taken the archive's place")
            self._descriptor = descriptor
        return self._descriptor

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_descriptor": None}

    def __del__(self):
        if getattr(self, "_descriptor", None) is not None:
            os.close(self._descriptor)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


class ArrayStore:
    """Pictures that are in memory already: uint8 (N, H, W, 3)."""

    def __init__(self, title: str, pixels: np.ndarray):
        self.title, self.pixels = title, pixels

    def name(self, row: int) -> str:
        return f"{self.title}:{row}"

    def picture(self, row: int, reading: Reading = WHOLE) -> Image.Image:
        return Image.fromarray(self.pixels[row])


def scan_folder(root: str) -> tuple[list[str], set[str]]:
    """Relative paths of all files and of all folders below `root`, hidden ones and what systems leave behind left out; DataError if one is closed to us.

    Links are followed, but not into a folder that the path has come through.
    """
    files, folders = [], set()
    waiting = [("", ())]
    while waiting:
        relative, above = waiting.pop()
        path = os.path.join(root, *relative.split("/")) if relative else root
        try:
            status = os.stat(path)
            here = (status.st_dev, status.st_ino)
            if here in above or len(above) >= DEEPEST:
                continue
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"{path}: this folder cannot be read: {(error.strerror or str(error)).lower()}") from None
        if relative:
            folders.add(relative)
        for entry in entries:
            if is_left_out(entry.name):
                continue
            inside = f"{relative}/{entry.name}" if relative else entry.name
            if _is_folder(entry):
                waiting.append((inside, (*above, here)))
            else:
                files.append(inside)
    return files, folders


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
