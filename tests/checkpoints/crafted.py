"""Files built byte by byte, so that they can lie; and a clock and a ceiling on memory for reading them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
import time
import tracemalloc
import zipfile
import zlib

import pytest

from jvan.checkpoints.reader import open_checkpoint
from jvan.errors import CheckpointError

ARRAY = b"\0\0\x80?\0\0\0@"  # float32 [1, 2]
MEMORY = 64 << 20
SECONDS = 20  # each takes well under a second; a bomb that goes off takes minutes


def text(word: str) -> bytes:
    raw = word.encode()
    return b"X" + struct.pack("<L", len(raw)) + raw


def number(value: int) -> bytes:
    raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def numbers(values) -> bytes:
    return b"(" + b"".join(number(value) for value in values) + b"t"


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def state(**values: bytes) -> bytes:
    """A dict of text keys and ready-made values."""
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def torch_storage(key: str = "0", count: int = 2, kind: str = "FloatStorage") -> bytes:
    return b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + number(count) + b"tQ"


def torch_tensor(shape=(2,), strides=(1,), offset: int = 0, storage: bytes = b"") -> bytes:
    storage = storage or torch_storage()
    parts = storage + number(offset) + numbers(shape) + numbers(strides) + b"\x89" + b"}"
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + parts + b"tR"


def numpy_array(
    shape=(2,), code: str = "f4", data: bytes = ARRAY, state: bytes | None = None, order: str = "<"
) -> bytes:
    """A numpy array as numpy pickles it."""
    none = b"NNN" + number(-1) + number(-1) + number(0)
    dtype = name("numpy", "dtype") + b"(" + text(code) + b"\x89\x88tR" + b"(" + number(3) + text(order) + none + b"tb"
    made = name("numpy.core.multiarray", "_reconstruct") + b"(" + name("numpy", "ndarray") + numbers([0]) + b"C\x01btR"
    raw = b"B" + struct.pack("<L", len(data)) + data
    return made + (b"(" + number(1) + numbers(shape) + dtype + b"\x89" + raw + b"t" if state is None else state) + b"b"


def sealed(pickle_bytes: bytes) -> bytes:
    """With Jittor's checksum: whoever writes a bad file can write a good checksum, too."""
    return pickle_bytes + hashlib.sha1(pickle_bytes).digest() + b"HCAJSLHD"


def torch_zip(path, body: bytes, storages=None, extra=(), compression=zipfile.ZIP_STORED):
    """An archive like torch.save's around a pickle's body."""
    storages = {"0": ARRAY} if storages is None else storages
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model/data.pkl", pickled(body))
        for key, data in storages.items():
            archive.writestr(f"model/data/{key}", data)
        archive.writestr("model/version", "3\n")
        for entry, data in extra:
            archive.writestr(entry, data)
    return path


def torch_legacy(path, body: bytes, keys=("0",), storages=((2, ARRAY),), system: bytes | None = None):
    """PyTorch's format before 1.6 around a pickle's body."""
    little = state(protocol_version=number(1001), little_endian=b"\x88") if system is None else system
    listed = b"](" + b"".join(text(key) for key in keys) + b"e"
    heads = [number(0x1950A86A20F9469CFC6C), number(1001), little, body, listed]
    runs = b"".join(struct.pack("<q", count) + data for count, data in storages)
    path.write_bytes(b"".join(pickled(head) for head in heads) + runs)
    return path


def safetensors(path, header, data: bytes = ARRAY, length: int | None = None):
    """A safetensors file around a header, given as a dict, as text or as bytes."""
    raw = json.dumps(header) if isinstance(header, dict) else header
    raw = raw.encode() if isinstance(raw, str) else raw
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def npy(header: str, data: bytes = ARRAY, version: int = 1) -> bytes:
    raw = header.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<L", len(raw)) + raw + data


def deflated(data: bytes) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    return squeeze.compress(data) + squeeze.flush()


@contextlib.contextmanager
def bounded(memory: int = MEMORY):
    """Fail if what happens inside takes long or allocates much."""
    tracemalloc.start()
    begin = time.process_time()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < memory, f"{peak} bytes were allocated"
    assert time.process_time() - begin < SECONDS  # of the processor: other work on the machine does not count


def read(path) -> dict:
    """All tensors of a file, as arrays."""
    with open_checkpoint(path) as checkpoint:
        return {key: tensor.numpy() for key, tensor in checkpoint.tensors().items()}


def refused(path, words: str, memory: int = MEMORY) -> None:
    """Reading ends in a CheckpointError of one line that names the file and says `words`; nothing is left beside it."""
    beside = sorted(path.parent.iterdir())
    with bounded(memory), pytest.raises(CheckpointError) as caught:
        read(path)
    message = str(caught.value)
    assert words in message
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < 600 + len(str(path))
    assert sorted(path.parent.iterdir()) == beside


# One tensor, and a row of a safetensors header.
W, V = state(w=torch_tensor()), state(v=torch_tensor())
ROW = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def row(**changes) -> dict:
    return {"w": {**ROW, **changes}}
