"""PyTorch's format before 1.6: five pickles in a row, then the storages as counted runs of bytes."""

from __future__ import annotations

from ..file_bytes import PartBytes, Source, SpanBytes, shown
from ..pickles.stand_ins import Storage
from ..pickles.torch_objects import nbytes, storage_type
from ..pickles.unpickle import Unpickler

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


def is_torch_legacy(source: Source) -> bool:
    """Whether the file begins with a pickle of the format's magic number."""
    start = bytes(source.view(0, min(source.size, 64)))
    return MAGIC.to_bytes(10, "little") in start or str(MAGIC).encode() in start


def read_torch_legacy(source: Source, list_refused: bool = False):
    """The object that torch.save wrote, as (tree, globals, pairs set aside); CheckpointError for anything else."""
    magic, at = _pickle(source, 0)
    version, at = _pickle(source, at)
    system, at = _pickle(source, at)
    if magic != MAGIC or version != PROTOCOL:
        raise source.error(f"is no torch file of version {PROTOCOL}, though it begins like one; it is damaged")
    if type(system) is not dict or system.get("little_endian") is not True:
        raise source.error("was written by a big-endian machine; save it again on a little-endian one")
    storages = _Storages()
    machine = Unpickler(source, at, storage_of=storages.find, list_refused=list_refused)
    tree = machine.load()
    keys, at = _pickle(source, machine.end)
    storages.locate(source, keys, at)
    return tree, machine.globals, machine.set_aside


def _pickle(source: Source, at: int):
    machine = Unpickler(source, at)
    return machine.load(), machine.end


class _Storages:
    """The storages that the pickle asks for; where they lie follows after it."""

    def __init__(self):
        self.spans: dict[str, tuple[SpanBytes, str | None, int]] = {}

    def find(self, m, identity) -> Storage:
        dtype, key, count = storage_type(m, identity)
        span, known, known_count = self.spans.setdefault(
            key, (SpanBytes(m.source, 0, nbytes(dtype, count)), dtype, count)
        )
        if (known, known_count) != (dtype, count):
            raise m.error(f"the storage {shown(key)} is described in two ways; the file is damaged")
        view = identity[5] if len(identity) == 6 else None
        return Storage(span if view is None else self._part(m, span, dtype, view), dtype)

    def _part(self, m, span: SpanBytes, dtype, view) -> PartBytes:
        """A storage that is a stretch of another: (key, offset, size), in elements."""
        plain = type(view) is tuple and len(view) == 3 and all(type(n) is int and n >= 0 for n in view[1:])
        if not plain or nbytes(dtype, view[1] + view[2]) > span.nbytes:
            raise m.error("a torch storage lies outside the one that it is a part of; the file is damaged")
        return PartBytes(span, nbytes(dtype, view[1]), nbytes(dtype, view[2]))

    def locate(self, source: Source, keys, at: int) -> None:
        """Walk over the storages: an 8-byte count of elements before each."""
        if type(keys) is not list or not all(type(key) is str for key in keys) or len(set(keys)) != len(keys):
            raise source.error("the list of storages is damaged")
        if set(keys) != set(self.spans):
            raise source.error("the list of storages is not that of the tensors; the file is damaged")
        for key in keys:
            span, _, count = self.spans[key]
            told = int.from_bytes(source.view(at, at + 8), "little", signed=True)
            if told != count:
                raise source.error(
                    f"the storage {shown(key)} has {told} elements, but {count} are claimed; it is damaged"
                )
            span.start = at + 8
            at = span.start + span.nbytes
            source.view(span.start, at)
        if at != source.size:
            raise source.error(f"{source.size - at} bytes follow the last storage; the file is damaged")
