"""The bytes of one pickle, taken one piece after the other."""

from __future__ import annotations

from ..file_bytes import Source, SpanBytes


class Input:
    """`source[start:stop]`; `at` counts the bytes taken."""

    def __init__(self, source: Source, start: int, stop: int | None):
        self.source, self.start = source, start
        self.stop = source.size if stop is None else stop
        self.data = source.view(start, self.stop)
        self.at = 0

    @property
    def end(self) -> int:
        return self.start + self.at

    def error(self, message: str):
        return self.source.error(message)

    def take(self, count: int) -> memoryview:
        """The next `count` bytes."""
        begin, self.at = self.at, self.at + count
        if count > len(self.data) - begin:
            raise self.error("the pickle ends in the middle of an object; the file is truncated or damaged")
        return self.data[begin : self.at]

    def number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def line(self, limit: int) -> bytes:
        """The bytes before the next line break, at most `limit` of them."""
        reach = 256
        while True:
            piece = bytes(self.data[self.at : self.at + min(reach, limit)])
            length = piece.find(b"\n")
            if length >= 0:
                self.at += length + 1
                return piece[:length]
            if reach >= limit or len(piece) < reach:
                raise self.error("the pickle holds a text line that is endless or too long; it is damaged")
            reach *= 8

    def span(self, count: int, kind=SpanBytes) -> SpanBytes:
        """The next `count` bytes as a place in the file, not read."""
        begin = self.start + self.at
        self.take(count)
        return kind(self.source, begin, count)
