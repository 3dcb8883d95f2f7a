"""Bytes of an untrusted file, reached by offset and length; nothing is copied until it is asked for."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat

import numpy as np

from .._text import printable
from ..errors import CheckpointError

RESIDENT = 32 << 20


def shown(text) -> str:
    """A name from a file as one quoted word."""
    return f'"{printable(text, 100)}"'


class Source:
    """A read-only buffer with a name for messages; `open_file` maps a file, else it wraps bytes."""

    def __init__(self, name: str, data, mapped=None):
        self.name = name
        self.size = len(data)
        self._view = memoryview(data)
        self._mapped = mapped
        self._handed_out = 0

    @classmethod
    def open_file(cls, path) -> Source:
        """Map a regular, non-empty file; CheckpointError for anything else, OSError if it cannot be opened."""
        name = os.fspath(path)
        # Opening a pipe must not wait for its writer before fstat can refuse it.
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise CheckpointError(f"{name}: is no regular file; give the path of a weights file")
            if found.st_size == 0:
                raise CheckpointError(f"{name}: is empty; download or copy it again")
            mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
        return cls(name, mapped, mapped)

    def view(self, start: int = 0, stop: int | None = None) -> memoryview:
        """The bytes from `start` to `stop`, not copied; CheckpointError if they do not all exist."""
        stop = self.size if stop is None else stop
        if self._view is None:
            raise self.error("the checkpoint is closed; read its tensors before closing it")
        if self._mapped is not None and self._mapped.size() < self.size:  # to touch what is gone would end the process
            raise self.error("became shorter while it was read; copy it again")
        if not 0 <= start <= stop <= self.size:
            raise self.error(f"bytes {start} to {stop} lie outside its {self.size}; it is truncated or damaged")
        self._handed_out += stop - start
        if self._handed_out > RESIDENT:
            self._forget()
        return self._view[start:stop]

    def _forget(self) -> None:
        """Let the system drop the pages that were read; they come back from the file if they are needed again."""
        self._handed_out = 0
        if self._mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def error(self, message: str) -> CheckpointError:
        return CheckpointError(f"{self.name}: {message}")

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; tensors that were not read cannot be read any more."""
        self._view = None
        mapped, self._mapped = self._mapped, None
        if mapped is not None:
            with contextlib.suppress(BufferError):  # a slice is still held somewhere; the mapping ends with it
                mapped.close()


class SpanBytes:
    """`nbytes` bytes of a source from `start` on: where a tensor's storage lies."""

    __slots__ = ("nbytes", "source", "start")
    whole = False  # only the part that is needed is read

    def __init__(self, source: Source, start: int, nbytes: int):
        self.source, self.start, self.nbytes = source, start, nbytes

    def view(self) -> memoryview:
        return self.source.view(self.start, self.start + self.nbytes)


class HeldBytes:
    """Bytes that are in memory already: a small array inside a pickle."""

    __slots__ = ("data",)
    whole = False

    def __init__(self, data: bytes):
        self.data = data

    @property
    def nbytes(self) -> int:
        return len(self.data)

    def view(self) -> bytes:
        return self.data


class PartBytes:
    """`nbytes` bytes of another storage, from `start` on; the other may learn its place in the file later."""

    __slots__ = ("nbytes", "start", "whole_of")

    def __init__(self, whole_of, start: int, nbytes: int):
        self.whole_of, self.start, self.nbytes = whole_of, start, nbytes

    @property
    def whole(self) -> bool:
        return self.whole_of.whole

    def view(self):
        return memoryview(self.whole_of.view())[self.start : self.start + self.nbytes]


class TextBytes(SpanBytes):
    """A long string of a pickle, left in the file."""

    __slots__ = ("_characters",)

    def as_latin1(self) -> Latin1Bytes:
        """The bytes that `_codecs.encode(text, "latin1")` would make of it, made when they are asked for."""
        if not hasattr(self, "_characters"):
            held, step = np.frombuffer(self.view(), np.uint8), 1 << 20
            leading = (held[at : at + step] & 0xC0 != 0x80 for at in range(0, len(held), step))
            self._characters = sum(int(np.count_nonzero(piece)) for piece in leading)
        return Latin1Bytes(self, self._characters)


class Latin1Bytes:
    """Bytes that a pickle holds as a long string, a character each."""

    __slots__ = ("nbytes", "text")
    whole = False

    def __init__(self, text: TextBytes, nbytes: int):
        self.text, self.nbytes = text, nbytes

    def view(self) -> bytes:
        try:
            data = str(self.text.view(), "utf-8").encode("latin-1")
        except UnicodeError:
            data = b""
        if len(data) != self.nbytes:
            raise self.text.source.error("an array's bytes are not Latin-1 text; the file is damaged")
        return data
