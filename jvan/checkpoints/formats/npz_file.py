"""numpy's `.npz`: a zip archive of `.npy` files (format described in numpy.lib.format)."""

from __future__ import annotations

import re

from ..file_bytes import PartBytes, Source, shown
from ..pickles.numpy_objects import fortran_strides
from ..tensor import DTYPES, LazyTensor
from .zip_container import ZipContainer, ZipEntry

MAX_HEADER = 1 << 14
# What numpy writes for arrays of numbers; records and objects have other descriptions.
HEADER = re.compile(
    r"\{\s*'descr':\s*'([<>|=]?)([a-zA-Z]\d*)',\s*'fortran_order':\s*(True|False),\s*"
    r"'shape':\s*\(((?:\s*\d{1,19}L?\s*,)*(?:\s*\d{1,19}L?)?)\s*\),?\s*\}\s*"
)


def read_npz(source: Source, container: ZipContainer) -> dict[str, LazyTensor]:
    """The arrays by name; CheckpointError for object arrays and anything malformed."""
    return {name[: -len(".npy")]: _array(source, entry) for name, entry in container.entries.items()}


def _array(source: Source, entry: ZipEntry) -> LazyTensor:
    name = shown(entry.name)
    begin, header = _header(source, entry, name)
    found = HEADER.fullmatch(header)
    if found is None:
        raise source.error(f"the array {name} has a header that numpy does not write for numbers; it is not read")
    order, code, fortran, sizes = found.groups()
    if code.startswith("O"):
        raise source.error(f"the array {name} holds Python objects, which are never read; save arrays of numbers")
    if code not in DTYPES:
        raise source.error(f"the array {name} is of the type {shown(code)}, not of numbers; leave it out")
    shape = tuple(int(n.strip().rstrip("L")) for n in sizes.split(",") if n.strip())
    data = PartBytes(entry, begin, entry.nbytes - begin)
    strides = fortran_strides(shape) if fortran == "True" else None
    tensor = LazyTensor(source, data, DTYPES[code], shape, strides, order=">" if order == ">" else "<")
    if tensor.nbytes != data.nbytes:
        raise source.error(f"the array {name} of {tensor.nbytes} bytes is given {data.nbytes}; the file is damaged")
    return tensor


def _header(source: Source, entry: ZipEntry, name: str) -> tuple[int, str]:
    """Where the elements begin, and the text that describes them."""
    start = bytes(entry.head(MAX_HEADER))
    version = start[6:7]
    width = 2 if version == b"\x01" else 4
    begin = 8 + width + int.from_bytes(start[8 : 8 + width], "little")
    if start[:6] != b"\x93NUMPY" or version not in (b"\x01", b"\x02", b"\x03") or not 8 + width < begin <= len(start):
        raise source.error(f"the entry {name} is no array of numpy's, or is damaged")
    return begin, start[8 + width : begin].decode("latin-1")
