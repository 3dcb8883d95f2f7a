"""PyTorch's .pth taken apart by the standard library alone: zipfile, and pickle with stand-ins for PyTorch's names."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict

import numpy as np

STORAGES = {"HalfStorage": "<f2", "FloatStorage": "<f4", "DoubleStorage": "<f8", "LongStorage": "<i8"}


def read_pth(path):
    """What was saved, with numpy arrays for tensors; asserts what PyTorch asks of the archive."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED and start(path, entry) % 64 == 0, entry
        assert archive.read("archive/version") == b"3\n" and archive.read("archive/byteorder") == b"little"
        return _Unpickler(archive).load()


def start(path, entry: zipfile.ZipInfo) -> int:
    """Where an entry's data begin: after its local header, whose name and extra field have their own lengths."""
    with open(path, "rb") as file:
        file.seek(entry.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    return entry.header_offset + 30 + name + extra


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive):
        super().__init__(io.BytesIO(archive.read("archive/data.pkl")))
        self._archive = archive

    def find_class(self, module, name):
        known = {("collections", "OrderedDict"): OrderedDict, ("torch._utils", "_rebuild_tensor_v2"): _rebuild}
        known.update({("torch", storage): code for storage, code in STORAGES.items()})
        return known[module, name]

    def persistent_load(self, reference):
        kind, code, key, device, count = reference
        assert kind == "storage" and device == "cpu"
        array = np.frombuffer(self._archive.read(f"archive/data/{key}"), code)
        assert array.size == count
        return array


def _rebuild(storage, offset, shape, strides, requires_grad, hooks):
    assert requires_grad is False and hooks == OrderedDict() and type(hooks) is OrderedDict
    size = storage.itemsize
    return np.ndarray(shape, storage.dtype, storage.tobytes(), offset * size, [stride * size for stride in strides])
