"""PyTorch's `.pth` (the zip format of 1.6 and later), written without PyTorch.

`torch.load(path, weights_only=True)` reads it. The archive holds a protocol-2 pickle and one stored, 64-byte aligned
entry per tensor, as torch.save writes them (torch/serialization.py and caffe2/serialize/inline_container.cc).
"""

from __future__ import annotations

import io
import zipfile

import numpy as np

from ..tensor import contiguous
from .pickle_writer import PickleWriter, raw_bytes

ALIGNMENT = 64
STORAGES = {"float16": "HalfStorage", "float32": "FloatStorage", "float64": "DoubleStorage", "int64": "LongStorage"}
_LOCAL_HEADER = 30  # bytes of a zip entry's header before its name (PKWARE's appnote, 4.3.7)
_PADDING_ID = b"FB"  # the extra field in which PyTorch's own writer puts its padding


def write_torch(file, tensors: dict[str, np.ndarray], wrapper: tuple[str, ...] = ("state_dict",)) -> None:
    """Write `tensors` to a seekable file: under the last key of `wrapper`, beside empty dicts under the others."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _entry(archive, "data.pkl", _structure(tensors, wrapper))
        _entry(archive, "byteorder", b"little")
        for number, array in enumerate(tensors.values()):
            _entry(archive, f"data/{number}", raw_bytes(array.astype(array.dtype.newbyteorder("<"), copy=False)))
        _entry(archive, "version", b"3\n")


def _structure(tensors: dict[str, np.ndarray], wrapper: tuple[str, ...]) -> bytes:
    file = io.BytesIO()
    out = PickleWriter(file, protocol=2)
    if wrapper:
        out.op(b"}", b"(")
        for key in wrapper[:-1]:
            out.text(key)
            out.op(b"}")
        out.text(wrapper[-1])
    _ordered_dict(out)
    out.op(b"(")
    for number, (name, array) in enumerate(tensors.items()):
        out.text(name)
        _tensor(out, str(number), array)
    out.op(b"u")
    if wrapper:
        out.op(b"u")
    out.stop()
    return file.getvalue()


def _tensor(out: PickleWriter, key: str, array: np.ndarray) -> None:
    """torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, backward hooks)."""
    out.name("torch._utils", "_rebuild_tensor_v2")
    out.op(b"(", b"(")
    out.text("storage")
    out.name("torch", STORAGES[array.dtype.name])
    out.text(key)
    out.text("cpu")
    out.integer(array.size)
    out.op(b"t", b"Q")
    out.integer(0)
    out.integers(array.shape)
    out.integers(contiguous(array.shape))
    out.op(b"\x89")
    _ordered_dict(out)
    out.op(b"t", b"R")


def _ordered_dict(out: PickleWriter) -> None:
    out.name("collections", "OrderedDict")
    out.op(b")", b"R")


def _entry(archive: zipfile.ZipFile, name: str, data) -> None:
    info = zipfile.ZipInfo(f"archive/{name}", date_time=(1980, 1, 1, 0, 0, 0))  # the same input gives the same bytes
    start = archive.fp.tell() + _LOCAL_HEADER + len(info.filename) + 4
    padding = -start % ALIGNMENT
    info.extra = _PADDING_ID + padding.to_bytes(2, "little") + b"Z" * padding
    archive.writestr(info, data)
