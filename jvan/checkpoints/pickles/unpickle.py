"""A pickle machine of our own: it builds plain data and stand-ins, and calls nothing that a file names.

Python's `pickle` documents the opcodes (pickletools lists them). Nothing here recurses on the file's
structure, and everything that a file can make grow is bounded.
"""

from __future__ import annotations

import math

from ...errors import CheckpointError
from ..file_bytes import Source, shown
from ..tensor import LazyTensor
from . import opcodes_calls, opcodes_structure  # noqa: F401  they fill the table
from .foreign_names import is_torch_class
from .input import Input
from .names import ADVICE, Names
from .opcodes import OPS
from .stand_ins import DType, Global, Inert, Named, OtherTensor, opaque
from .tree import check_tree

STOP = ord(".")
MAX_OPCODES = 2_000_000  # seconds; a VAN-B6 with optimiser state and averaged weights needs some 400,000
MAX_OBJECTS = 500_000
MAX_MARKS = 10_000
MAX_STACK = 1_000_000
MAX_TEXT = 64 << 20
MAX_TUPLE_KEYS = 4096  # hashes of tuples, unlike those of strings, can be made to collide


class Unpickler(Input):
    """Reads one pickle from `source[start:stop]`.

    `storage_of(machine, persistent id)` gives torch's storages; without it persistent ids are refused.
    `globals` maps each name met to whether it is allowed; with `list_refused` a name that is not
    becomes a stand-in rather than an error, so that all of them can be shown.
    """

    def __init__(self, source: Source, start: int = 0, stop: int | None = None, storage_of=None, list_refused=False):
        super().__init__(source, start, stop)
        self.stack, self.marks, self.memo = [], [], {}
        self.storage_of = storage_of
        self.names = Names(
            source.error, list_refused
        )  # it knows nothing of the machine: a circle would outlive the reading
        self.objects = self.text = self.tuple_keys = self.set_aside = 0

    def load(self):
        """Run to the STOP opcode and return the checked object; `end` is then the position after it."""
        try:
            return self._run()
        except CheckpointError:
            self.names.refuse_all()  # what is unsafe matters more than that it is damaged, too
            raise

    @property
    def globals(self) -> dict[str, bool]:
        return self.names.verdicts

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
        if self.names.unsettled and not self.names.listing:
            self.names.refuse_all()
        check_tree(value, self.source)
        return value

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
        """Push the stand-in for a global; CheckpointError if it is refused."""
        if self.names.is_new(module, name):
            self.note_text(len(module) + len(name))
        self.push(self.names.find(module, name))

    def refuse(self, name: str) -> Global:
        return self.names.refuse(name)

    def call(self, function, args) -> None:
        """Push what our own function for a global makes of `args`."""
        self.refuse_opaque(function, "something to call", but=Named)
        if type(function) not in (Global, Named) or type(args) is not tuple:
            raise self.error("the pickle calls something that is no global; it is damaged or unsafe")
        if type(function) is Named or not function.allowed:
            self.made(Inert(function.name, args, foreign=type(function) is Named))
        elif is_torch_class(function.name) and function.call is None:
            raise self.whole_object(function.name)
        elif function.call is None:
            raise self.error(f"the pickle calls {shown(function.name)}, which may only be named; {ADVICE}")
        else:
            self.made(function.call(self, args))

    def whole_object(self, name: str):
        return self.error(f"holds a whole object of {shown(name)}, not its weights; save model.state_dict()")

    def refuse_opaque(self, value, wanted: str, but=None) -> None:
        """CheckpointError, by name, where an opaque stand-in lies where something else is needed."""
        if opaque(value) and type(value) is not but:
            raise self.error(
                f"the pickle needs {wanted} and has an object of {shown(value.name)}; save a plain state dict"
            )

    def set_item(self, target: dict, key, value) -> None:
        """Put a pair into a dict: keys are text, numbers, bytes or short tuples of them, each once.

        A pair whose key is a stand-in, which cannot be hashed, is set aside.
        """
        if _is_stand_in(key) or (type(key) is tuple and any(map(_is_stand_in, key[:16]))):
            self.set_aside += 1
            return
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


def _is_stand_in(key) -> bool:
    return opaque(key) or type(key) in (Global, DType, OtherTensor, LazyTensor)


def _is_key(key) -> bool:
    if type(key) is int:
        return abs(key) < 1 << 60  # below the modulus of Python's hash, so that keys cannot be made to collide
    return type(key) in (str, bytes, bool, type(None)) or (type(key) is float and math.isfinite(key))
