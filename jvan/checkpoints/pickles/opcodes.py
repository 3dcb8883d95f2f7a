"""The table of pickle opcodes that plain data needs, protocols 0 to 5, and those that make plain values.

Each function acts on an Unpickler; `opcodes_structure` and `opcodes_calls` add theirs to the table.
"""

from __future__ import annotations

import re
import struct

from ..file_bytes import TextBytes

SHORT_BYTES = 256  # longer ones stay in the file
SHORT_TEXT = 1 << 16
LONGEST_LINE = 16 << 20
LONGEST_NAME = 1024
LONGEST_INT = 256  # bytes
INTEGER = re.compile(rb"-?[0-9]+")
OPS = {}


def op(code: bytes, *args):
    """Register a function, with fixed further arguments, for one opcode."""

    def register(function):
        OPS[code[0]] = (lambda m: function(m, *args)) if args else function
        return function

    return register


@op(b"N", None)
@op(b"\x88", True)
@op(b"\x89", False)
def constant(m, value):
    m.push(value)


@op(b"K", 1, False)
@op(b"M", 2, False)
@op(b"J", 4, True)
def binary_int(m, size, signed):
    m.push(m.number(size, signed))


@op(b"\x8a", 1)
@op(b"\x8b", 4)
def long_int(m, width):
    size = m.number(width)
    if size > LONGEST_INT:
        raise m.error(f"the pickle holds an integer of {size} bytes; the file is damaged")
    m.push(m.number(size, signed=True))


@op(b"I")
@op(b"L")
def text_int(m):
    text = m.line(LONGEST_INT)
    if text in (b"00", b"01"):
        return m.push(text == b"01")
    digits = text[:-1] if text.endswith(b"L") else text
    if not INTEGER.fullmatch(digits):
        raise m.error("the pickle holds an integer that is none; the file is damaged")
    m.push(int(digits))


@op(b"G")
def binary_float(m):
    m.push(struct.unpack(">d", m.take(8))[0])


@op(b"F")
def text_float(m):
    try:
        m.push(float(m.line(LONGEST_INT)))
    except ValueError:
        raise m.error("the pickle holds a float that is none; the file is damaged") from None


@op(b"\x8c", 1)
@op(b"X", 4)
@op(b"\x8d", 8)
def unicode_text(m, width):
    size = m.number(width)
    if size > SHORT_TEXT:
        return m.made(m.span(size, TextBytes))
    m.note_text(size)
    m.push(decoded(m, m.take(size), "utf-8"))


@op(b"V")
def unicode_line(m):
    line = m.line(LONGEST_LINE)
    m.note_text(len(line))
    m.push(decoded(m, line, "raw-unicode-escape"))


@op(b"U", 1)
@op(b"T", 4)
@op(b"C", 1)
@op(b"B", 4)
@op(b"\x8e", 8)
@op(b"\x96", 8)
def binary_bytes(m, width):
    """Bytes; a Python 2 string (U, T) that is ASCII was text."""
    code = m.data[m.at - 1]
    size = m.number(width)
    if size > SHORT_BYTES:
        return m.made(m.span(size))
    value = bytes(m.take(size))
    m.push(value.decode("ascii") if code in b"UT" and value.isascii() else value)


@op(b"S")
def string_line(m):
    line = m.line(SHORT_TEXT)
    quoted = len(line) >= 2 and line[:1] == line[-1:] and line[:1] in (b"'", b'"')
    if not quoted or b"\\" in line or not line.isascii():
        raise m.error("the pickle holds a Python 2 string that is not plain text; save it again with Python 3")
    m.note_text(len(line))
    m.push(line[1:-1].decode("ascii"))


def decoded(m, data, encoding: str) -> str:
    try:
        return str(data, encoding)
    except UnicodeError:
        raise m.error("the pickle holds text that is not Unicode; the file is damaged") from None


@op(b"\x80")
def protocol(m):
    version = m.number(1)
    if version > 5:
        raise m.error(f"the pickle is of protocol {version}; 0 to 5 are known")


@op(b"\x95")
def frame(m):
    if m.number(8) > len(m.data) - m.at:
        raise m.error("a frame of the pickle is longer than the file; the file is truncated or damaged")
