"""gzip, xz and bzip2 as a stream of bounded pieces, whatever their headers claim."""

from __future__ import annotations

import bz2
import lzma
import zlib

from ..errors import DataError
from ..memory_limit import available_memory

CHUNK = 1 << 20  # bytes at a time, of what is read and of what comes out
MARKS = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2"}
LONGEST_HEADER = 12 + 1024  # bytes: xz's own and its first block's
LZMA2 = 0x21
UNKNOWN = 1 << 62  # bytes: nothing says how much memory there is


class _Damaged(Exception):
    """The reason."""


def kind_of(head: bytes) -> str | None:
    """The kind of compression that a file's first bytes tell; None for none of these."""
    return next((kind for mark, kind in MARKS.items() if head.startswith(mark)), None)


def decompressed(read, kind: str, path: str):
    """Yield what an archive unpacks to; `read(n)` gives its bytes from the beginning on.

    DataError, which names `path`, where it is damaged, cut short, or takes more memory than this process may have.
    """
    try:
        yield from _members(read, kind, path)
    except (_Damaged, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: damaged or cut short ({error}); fetch it again") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(f"{path}: damaged or cut short ({error}); fetch it again") from None  # bz2
    except MemoryError:
        raise DataError(f"{path}: unpacking it takes more memory than this process may have; raise its limit") from None


def _members(read, kind: str, path: str):
    """An archive may be several of its kind, one after the other, with zeros between them."""
    mark = next(mark for mark in MARKS if MARKS[mark] == kind)
    data = read(CHUNK)
    while data:
        while len(data) < LONGEST_HEADER and (more := read(CHUNK)):
            data += more
        if not data.startswith(mark):
            raise _Damaged(f"what follows at its end is no {kind}")
        data = yield from _member(read, _decoder(kind, data, path), data)
        while data and not data.strip(b"\0"):
            data = read(CHUNK)
        data = data.lstrip(b"\0")


def _member(read, decoder, data: bytes):
    """Yield one member's content; what of `data` follows it is returned."""
    while True:
        out = decoder.decompress(data, CHUNK)
        if out:
            yield out
        if decoder.eof:
            return decoder.unused_data or read(CHUNK)
        if decoder.needs_input:
            data = read(CHUNK)
            if not data and not out:
                raise _Damaged("it ends before its end-of-stream mark")
        else:
            data = b""


def _decoder(kind: str, head: bytes, path: str):
    if kind == "gzip":
        return _Gzip()
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    wanted, limit = _dictionary(head), available_memory()
    allowed = UNKNOWN if limit is None else max(0, limit.free)
    if wanted > allowed:
        raise DataError(
            f"{path}: unpacking it takes {wanted >> 20:,} MiB of memory, and this process may have {allowed >> 20:,} MiB; "
            "raise its limit, or pack it again with xz -6"
        )
    # for blocks after the first, which may claim another dictionary
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=max(allowed, 16 << 20))


class _Gzip:
    """zlib's decoder with the others' interface."""

    def __init__(self):
        self._decoder, self._left = zlib.decompressobj(31), b""

    def decompress(self, data: bytes, most: int) -> bytes:
        out = self._decoder.decompress(self._left + data, most)
        self._left = self._decoder.unconsumed_tail
        return out

    @property
    def needs_input(self) -> bool:
        return not self._left

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data


def _dictionary(head: bytes) -> int:
    """Bytes of the dictionary that an xz file's first block asks for; 0 where its header is none."""
    header = head[12 : 12 + 4 * (head[12] + 1)] if len(head) > 12 else b""
    try:
        at = 2
        for flag in (0x40, 0x80):  # the block's sizes
            if header[1] & flag:
                _, at = _integer(header, at)
        for _ in range((header[1] & 3) + 1):
            name, at = _integer(header, at)
            length, at = _integer(header, at)
            if name == LZMA2:
                bits = header[at]
                return min((2 | bits & 1) << (bits // 2 + 11), 0xFFFFFFFF)
            at += length
    except IndexError:
        pass
    return 0


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first; and where it ends."""
    value = 0
    for place in range(9):
        value |= (data[at] & 0x7F) << (7 * place)
        at += 1
        if not data[at - 1] & 0x80:
            break
    return value, at
