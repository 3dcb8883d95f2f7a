"""A pickle machine of our own: it builds plain data and stand-ins, and calls nothing that a file names.

Python's `pickle` documents the opcodes (pickletools lists them). Nothing here recurses on the file's
structure, and everything that a file can make grow is bounded.
"""

from __future__ import annotations

import math

from ..errors import CheckpointError
from . import opcodes_calls, opcodes_structure  # noqa: F401  they fill the table
from .allowed import ALLOWED, renamed
from .opcodes import OPS
from .source import Source, Span, shown
from .stand_ins import Global, Inert
from .tree import check_tree

STOP = ord(".")
MAX_OPCODES = 2_000_000  # seconds; a VAN-B6 with optimiser state and averaged weights needs some 400,000
MAX_OBJECTS = 500_000
MAX_MARKS = 10_000
MAX_STACK = 1_000_000
MAX_TEXT = 64 << 20
MAX_TUPLE_KEYS = 4096  # hashes of tuples, unlike those of strings, can be made to collide
MAX_NAMES = 1000
ADVICE = "a state dict needs no code; ask for the weights alone, best as safetensors"


class Unpickler:
    """Reads one pickle from `source[start:stop]`.

    `storage_of(machine, persistent id)` gives torch's storages; without it persistent ids are refused.
    `globals` maps each name met to whether it is allowed; with `list_refused` a name that is not
    becomes a stand-in rather than an error, so that all of them can be shown.
    """

    def __init__(self, source: Source, start: int = 0, stop: int | None = None, storage_of=None, list_refused=False):
        self.source, self.start = source, start
        self.stop = source.size if stop is None else stop
        self.data = source.view(start, self.stop)
        self.at = 0
        self.stack, self.marks, self.memo = [], [], {}
        self.storage_of, self.list_refused = storage_of, list_refused
        self.globals: dict[str, bool] = {}
        self.found: dict[str, Global] = {}
        self.objects = self.text = self.tuple_keys = 0

    def load(self):
        """Run to the STOP opcode and return the checked object; `end` is then the position after it."""
        try:
            return self._run()
        except CheckpointError:
            refused = [name for name, allowed in self.globals.items() if not allowed]
            if self.list_refused and refused:  # what is unsafe matters more than that it is damaged, too
                raise self.error(f"refuses the pickle globals {', '.join(map(shown, refused[:8]))}; {ADVICE}") from None
            raise

    def _run(self):
        data, size = self.data, len(self.data)
        for _ in range(MAX_OPCODES):
            if self.at >= size:
                raise self.error("the pickle ends before its STOP; the file is truncated")
            code = data[self.at]
            self.at += 1
            if code == STOP:
                return self._finish()
            run = OPS.get(code)
            if run is None:
                raise self.error(f"the pickle holds the unknown opcode {code:#04x}; the file is damaged")
            run(self)
        raise self.error(f"the pickle has more than {MAX_OPCODES} opcodes; no state dict needs as many")

    def _finish(self):
        value = self.pop()
        if self.stack or self.marks:
            raise self.error("the pickle leaves objects on its stack; it is damaged")
        check_tree(value, self.source)
        return value

    @property
    def end(self) -> int:
        return self.start + self.at

    def error(self, message: str):
        return self.source.error(message)

    # The input

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

    def span(self, count: int, kind=Span) -> Span:
        """The next `count` bytes as a place in the file, not read."""
        begin = self.start + self.at
        self.take(count)
        return kind(self.source, begin, count)

    # The stack

    def push(self, value) -> None:
        self.stack.append(value)

    def made(self, value) -> None:
        """Push a new object; every kind that costs memory is counted."""
        self.objects += 1
        if self.objects > MAX_OBJECTS or len(self.stack) > MAX_STACK:
            raise self.error(f"the pickle makes more than {MAX_OBJECTS} objects; no state dict needs as many")
        self.stack.append(value)

    def pop(self):
        if not self.stack:
            raise self.error("the pickle takes an object that is not there; it is damaged")
        return self.stack.pop()

    def top(self):
        if not self.stack:
            raise self.error("the pickle uses an object that is not there; it is damaged")
        return self.stack[-1]

    def mark(self) -> None:
        if len(self.marks) >= MAX_MARKS:
            raise self.error(f"the pickle opens more than {MAX_MARKS} groups; no state dict needs as many")
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list:
        """Everything since the last mark."""
        if not self.marks:
            raise self.error("the pickle closes a group that it did not open; it is damaged")
        items, self.stack = self.stack, self.marks.pop()
        return items

    # Objects

    def note_text(self, size: int) -> None:
        self.text += size
        if self.text > MAX_TEXT:
            raise self.error(f"the pickle holds more than {MAX_TEXT >> 20} MiB of text; no state dict needs as much")

    def find(self, module: str, name: str) -> None:
        """Push the stand-in for a global; CheckpointError if it is not on the list of allowed ones."""
        full = f"{module}.{name}"
        known = self.found.get(full)
        if known is None:
            known = self.found[full] = self._admit(full, ALLOWED.get(renamed(full)))
        self.push(known)

    def _admit(self, full: str, rule) -> Global:
        allowed = rule is not None and (rule.needs is None or any(n in self.globals for n in rule.needs))
        self.globals[full] = allowed
        if allowed:
            return Global(renamed(full), rule.call, rule.dtype)
        return self.refuse(full)

    def refuse(self, name: str) -> Global:
        """Raise, or, where the refused names are to be listed, stand in."""
        if not self.list_refused or len(self.globals) > MAX_NAMES:
            raise self.error(f"refuses the pickle global {shown(name)}; {ADVICE}")
        self.globals[name] = False
        return Global(name, allowed=False)

    def call(self, function, args) -> None:
        """Push what our own function for a global makes of `args`."""
        if type(function) is not Global or type(args) is not tuple:
            raise self.error("the pickle calls something that is no global; it is damaged or unsafe")
        if not function.allowed:
            self.made(Inert(function.name, args))
        elif function.call is None:
            raise self.error(f"the pickle calls {shown(function.name)}, which may only be named; {ADVICE}")
        else:
            self.made(function.call(self, args))

    def set_item(self, target: dict, key, value) -> None:
        """Put a pair into a dict: keys are text, numbers, bytes or short tuples of them, each once."""
        if type(key) is tuple:
            self.tuple_keys += 1
            plain = self.tuple_keys <= MAX_TUPLE_KEYS and len(key) <= 16 and all(_is_key(part) for part in key)
        else:
            plain = _is_key(key)
        if not plain:
            raise self.error("the pickle has a dictionary key that is neither text nor number; it is damaged")
        if key in target:
            raise self.error(f"the pickle gives the key {shown(key)} twice; the file is damaged")
        target[key] = value


def _is_key(key) -> bool:
    if type(key) is int:
        return abs(key) < 1 << 60  # below the modulus of Python's hash, so that keys cannot be made to collide
    return type(key) in (str, bytes, bool, type(None)) or (type(key) is float and math.isfinite(key))
