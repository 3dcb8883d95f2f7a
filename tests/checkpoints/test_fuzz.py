"""Real files, mutated by the thousand: each is read to sane arrays or refused in one line, and nothing else happens.

`python -m tests.checkpoints.test_fuzz SEED COUNT` runs longer.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
import resource
import struct
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jvan.checkpoints.reader import open_checkpoint
from jvan.errors import CheckpointError

GOLDEN = Path(__file__).parent.parent / "golden"
COUNT = 500  # mutants of each file
SECONDS = 20
MEMORY = 48 << 20
EDGES = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
OPCODES = pickle.dumps({"a": [1, (2.5, None), {3}]}, 4) + b"cR\x81b(tu\x93QhjqrXBU\x8b\x95Ii0120\x85\x86\x87\x90}]"


def recorded(file: str) -> bytes:
    return (GOLDEN / file).read_bytes()


def numpy_pickle(protocol: int) -> bytes:
    arrays = {"a": np.arange(9.0), "b": np.arange(100).reshape(4, 25).T, "c": np.float32(2), "d": np.ones(300, ">i2")}
    return pickle.dumps({"model": arrays, "meta": {"x": [1, "y", 2.5, None, {1, 2}, b"x" * 10, 2**70]}}, protocol)


def numpy_archive() -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, a=np.arange(5.0), b=np.asfortranarray(np.ones((2, 3), np.float16)), c=np.int64(3))
    return out.getvalue()


FILES = {
    **{f"zip_protocol{n}": lambda n=n: recorded(f"formats/zip_protocol{n}.pth.tar") for n in (2, 4)},
    **{f"legacy_protocol{n}": lambda n=n: recorded(f"formats/legacy_protocol{n}.pth") for n in (1, 2, 4)},
    "deflated": lambda: recorded("formats/deflated.bin"),
    "mmengine": lambda: recorded("formats/mmengine_protocol2.pth"),
    "safetensors": lambda: recorded("formats/plain.safetensors"),
    "jittor": lambda: recorded("formats/jittor_training.pkl"),
    **{f"numpy_protocol{n}": lambda n=n: numpy_pickle(n) for n in (0, 2, 5)},
    "npz": numpy_archive,
}


def byte_flip(rng, data, at):
    data[at] ^= 1 << rng.randrange(8)


def byte_set(rng, data, at):
    data[at] = rng.choice((rng.randrange(256), rng.choice(OPCODES)))


def cut(rng, data, at):
    del data[at:]


def delete(rng, data, at):
    del data[at : at + rng.choice((1, 2, 8, 100))]


def duplicate(rng, data, at):
    begin = rng.randrange(len(data))
    data[at:at] = data[begin : begin + rng.choice((1, 4, 30, 500))]


def copy_over(rng, data, at):
    begin, size = rng.randrange(len(data)), rng.choice((1, 4, 8, 40))
    data[at : at + size] = data[begin : begin + size]


def integer(rng, data, at):
    size = rng.choice((1, 2, 4, 8))
    data[at : at + size] = (rng.choice(EDGES) % (1 << 8 * size)).to_bytes(size, "little")


def digits(rng, data, at):
    """Another decimal number where one stands: sizes in JSON, keys, text opcodes."""
    places = [i for i in range(at, min(at + 300, len(data))) if 48 <= data[i] <= 57]
    if places:
        data[places[0] : places[0] + 1] = str(rng.choice((-1, 0, 9, rng.choice(EDGES)))).encode()


def splice(rng, data, at):
    other = FILES[rng.choice(list(FILES))]()
    begin = rng.randrange(len(other))
    data[at : at + rng.choice((0, 50))] = other[begin : begin + rng.choice((1, 8, 100, 1000))]


def opcodes(rng, data, at):
    data[at:at] = bytes(rng.choice(OPCODES) for _ in range(rng.choice((1, 2, 5))))


CHANGES = (byte_flip, byte_set, byte_set, cut, delete, duplicate, copy_over, integer, integer, digits, splice, opcodes)


def change(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if changed:
            rng.choice(CHANGES)(rng, changed, rng.randrange(len(changed)))
    return bytes(changed)


def mutant(rng: random.Random, data: bytes) -> bytes:
    """Half of them are changed inside: an entry of the archive, the header, with checksums and sizes made right."""
    if rng.random() < 0.5:
        return change(rng, data)
    if data[:2] == b"PK":
        return inside_a_zip(rng, data)
    if data[8:9] == b"{":
        size = struct.unpack("<Q", data[:8])[0]
        header = change(rng, data[8 : 8 + size])
        return struct.pack("<Q", len(header)) + header + data[8 + size :]
    body = change(rng, data[:-28] if data.endswith(b"HCAJSLHD") else data)
    return body + hashlib.sha1(body).digest() + b"HCAJSLHD"


def inside_a_zip(rng: random.Random, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", rng.choice((0, 8))) as new:
        names = old.namelist()
        chosen = names[0] if rng.random() < 0.8 else rng.choice(names)
        for name in names:
            content = old.read(name)
            new.writestr(zipfile.ZipInfo(name), change(rng, content) if name == chosen else content)
    return out.getvalue()


def outcome(path: str) -> str:
    """Read everything; "read" or "refused", or an exception that must not happen."""
    try:
        with open_checkpoint(path) as checkpoint:
            for ema in (False, True):
                read_all(checkpoint, ema)
    except CheckpointError as error:
        assert str(error).startswith(f"{path}: ") and str(error).isprintable(), error
        return "refused"
    finally:
        with_names(path)
    return "read"


def read_all(checkpoint, ema: bool) -> None:
    try:
        tensors = checkpoint.tensors(ema)
    except CheckpointError:
        if ema:  # few of the files have averaged weights
            return
        raise
    for tensor in tensors.values():
        array = tensor.numpy()
        assert array.shape == tensor.shape and array.nbytes <= 4 * max(tensor.nbytes, 1)


def with_names(path: str) -> None:
    """What `inspect` does: refused globals are listed."""
    try:
        with open_checkpoint(path, list_refused=True) as checkpoint:
            assert set(checkpoint.refused) <= set(checkpoint.globals)
    except CheckpointError:
        pass


def run(file: str, seed: int, count: int, path: Path) -> dict[str, int]:
    rng, original = random.Random(f"{seed} {file}"), FILES[file]()
    seen = {"read": 0, "refused": 0}
    for _ in range(count):
        path.write_bytes(mutant(rng, original))
        seen[outcome(str(path))] += 1
    return seen


def peak_memory() -> int:
    """The most that this process has held so far, in KiB on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize("file", FILES)
def test_mutated_files(file, tmp_path):
    path = tmp_path / "mutant"
    begin, held = time.process_time(), peak_memory()
    seen = run(file, 20, COUNT, path)
    assert peak_memory() - held < MEMORY and time.process_time() - begin < SECONDS
    # a mutator that never spares a file, or never harms one, tests little
    assert seen["refused"] > COUNT // 4 and seen["read"] > 2, seen


def test_the_originals_are_read(tmp_path):
    for file, make in FILES.items():
        (tmp_path / "whole").write_bytes(make())
        assert outcome(str(tmp_path / "whole")) == "read", file


def test_changed_headers_stay_json_often_enough():
    rng, data = random.Random(1), FILES["safetensors"]()
    size = struct.unpack("<Q", data[:8])[0]
    whole = 0
    for _ in range(300):
        try:
            json.loads(change(rng, data[8 : 8 + size]))
            whole += 1
        except ValueError:
            pass
    assert whole > 10


if __name__ == "__main__":
    for each in FILES:
        print(each, run(each, int(sys.argv[1]), int(sys.argv[2]), Path(f"/tmp/mutant-{sys.argv[1]}")))
