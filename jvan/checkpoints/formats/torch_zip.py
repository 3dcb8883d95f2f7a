"""PyTorch's zip format (1.6 and later): ROOT/data.pkl and one entry, ROOT/data/KEY, for each storage."""

from __future__ import annotations

from ..file_bytes import Source, shown
from ..pickles.stand_ins import Storage
from ..pickles.torch_objects import nbytes, storage_type
from ..pickles.unpickle import Unpickler
from .zip_container import DEFLATED, ZipContainer, ZipEntry


def read_torch_zip(source: Source, container: ZipContainer, list_refused: bool = False):
    """The object that torch.save wrote, as (tree, globals, pairs set aside); CheckpointError for anything else."""
    root = _root(source, container)
    order = _byte_order(source, container.entries.get(f"{root}/byteorder"))
    storages: dict[str, ZipEntry] = {}

    def storage_of(m, identity) -> Storage:
        dtype, key, count = storage_type(m, identity)
        entry = storages.get(key) or container.entries.get(f"{root}/data/{key}")
        if entry is None or len(identity) != 5:
            raise m.error(f"the storage {shown(key)} is not in the archive; the file is damaged")
        if entry.nbytes != nbytes(dtype, count):
            raise m.error(
                f"the storage {shown(key)} has {entry.nbytes} bytes, but {nbytes(dtype, count)} are claimed; it is damaged"
            )
        storages[key] = entry
        return Storage(entry, dtype, order)

    entry = container.entries[f"{root}/data.pkl"]
    data = entry.view()
    # Long values stay in the file, so the machine needs to know where the pickle lies in it.
    pickled = (Source(source.name, data), 0, len(data)) if entry.method == DEFLATED else _place(source, entry)
    machine = Unpickler(*pickled, storage_of=storage_of, list_refused=list_refused)
    tree = machine.load()
    if machine.end != pickled[2]:
        raise source.error("data.pkl goes on after its end; it is damaged or unsafe")
    return tree, machine.globals, machine.set_aside


def _place(source: Source, entry: ZipEntry):
    return source, entry.start, entry.start + entry.nbytes


def _root(source: Source, container: ZipContainer) -> str:
    """The folder of the archive that everything lies in."""
    names = list(container.entries)
    pickles = [name for name in names if name.endswith(".pkl")]
    roots = {name.split("/", 1)[0] for name in names}
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise source.error("is a TorchScript archive, which is a program; save the state dict instead")
    if len(pickles) != 1 or len(roots) != 1:
        raise source.error(
            f"the archive holds {len(pickles)} pickles in {len(roots)} folders, not one in one; it is damaged or unsafe"
        )
    root = pickles[0].split("/", 1)[0]
    if pickles[0] != f"{root}/data.pkl":
        raise source.error(
            f"the archive's pickle is {shown(pickles[0])}, not data.pkl in its folder; it is damaged or unsafe"
        )
    return root


def _byte_order(source: Source, entry: ZipEntry | None) -> str:
    """numpy's sign for the byte order that the archive declares; without a word it is little-endian."""
    word = bytes(entry.view()) if entry is not None and entry.nbytes < 16 else b"little"
    if word not in (b"little", b"big"):
        raise source.error(f"declares the unknown byte order {shown(word)}; the file is damaged")
    return "<" if word == b"little" else ">"
