"""Pickles that would grow, nest or run without end, and pickles that are cut: one line, in seconds, in little memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jvan.errors import CheckpointError

from .crafted import (
    name,
    number,
    numpy_array,
    pickled,
    read,
    refused,
    state,
    text,
    torch_zip,
)

LAUGHS = b"](" + text("ha") * 10 + b"eq\x000" + (b"](" + b"h\x00" * 10 + b"eq\x000") * 60 + b"h\x00"


def nested(opening: bytes, closing: bytes, times: int) -> bytes:
    return opening * times + b"N" + closing * times


@pytest.mark.parametrize(
    "bomb, words",
    [
        (LAUGHS, "repeats its parts"),
        (LAUGHS.replace(b"](", b"(").replace(b"eq\x000", b"tq\x000"), "repeats its parts"),
        (b"]q\x05h\x05a", "contains itself"),
        (b"}q\x05" + text("me") + b"h\x05s", "contains itself"),
        (name("argparse", "Namespace") + b")\x81q\x05h\x05b", "contains itself"),
        (b"]q\x05(h\x05t" + b"a", "contains itself"),
        (nested(b"]", b"a", 100_000), "levels deep"),
        (nested(b"(", b"t", 9_000), "levels deep"),
        (nested(b"(", b"t", 100_000), "groups"),
        (b"N" + b"\x85" * 100_000, "levels deep"),
        (name("argparse", "Namespace") + b"q\x00" + b"h\x00)\x81" * 100_000 + b"b" * 99_999, "stack"),
        (name("argparse", "Namespace") + b"q\x000" + b"h\x00)\x81" * 100_000 + b"b" * 99_999, "levels deep"),
        ((b"}" + text("k")) * 100_000 + b"N" + b"s" * 100_000, "levels deep"),
        (b"N" + b"\x85" * 300 + b"q\x09" + b"0}h\x09Ns", "neither text nor number"),
        (b"(" * 20_000, "more than 10000 groups"),
        (b"\x8b\xff\xff\xff\x7f", "an integer of 2147483647 bytes"),
        (b"\x8b\x00\x10\x00\x00" + b"\x01" * 4096, "an integer of 4096 bytes"),
        (b"I" + b"9" * 100_000 + b"\n", "endless or too long"),
        (b"L" + b"9" * 100_000 + b"L\n", "endless or too long"),
        (b"Ione\n", "integer that is none"),
        (b"Fone\n", "float that is none"),
        (b"X\xff\xff\xff\xff", "in the middle of an object"),
        (b"\x8d" + b"\xff" * 8, "in the middle of an object"),
        (b"B\xff\xff\xff\xff", "in the middle of an object"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", "in the middle of an object"),
        (b"\x96\xff\xff\xff\xff\xff\xff\xff\xff", "in the middle of an object"),
        (b"\x95\xff\xff\xff\xff\xff\xff\xff\xff", "a frame of the pickle"),
        (b"\x80\x09", "protocol 9"),
        (b"\xff", "unknown opcode 0xff"),
        (b"X\x01\x00\x00\x00\xff", "not Unicode"),
        (b"cos\n\xff\n", "not Unicode"),
        (b"c" + b"x" * 5000 + b"\n\n", "endless or too long"),
        (b"h\x63", "object that it did not make"),
        (b"j\xff\xff\xff\xff", "object that it did not make"),
        (b"g-1\n", "object that it did not make"),
        (b"gx\n", "something that is no number"),
        (b"NNa", "appends to something"),
        (b"NNNs", "sets items of something"),
        (b"](NNu", "sets items of something"),
        (b"}(Nu", "sets items of something"),
        (b"N" * 10, "leaves objects on its stack"),
        (b"t", "closes a group"),
        (b"}}Ns", "neither text nor number"),
        (b"}" + number(1 << 61) + b"Ns", "neither text nor number"),
        (b"}G\x7f\xf8\0\0\0\0\0\0Ns", "neither text nor number"),
        (b"}" + text("a") + b"Ns" + text("a") + b"Ns", '"a" twice'),
        (b"}\x88Ns" + b"K\x01Ns", '"1" twice'),
        (
            name("collections", "OrderedDict") + b"(](" + b"(" + text("a") + b"Nt" * 1 + b"NetR",
            "something that is none",
        ),
        (name("collections", "OrderedDict") + b"(NtR", "something that is none"),
        (name("collections", "deque") + b"(NtR", "no list"),
        (name("builtins", "complex") + b"(NNtR", "damaged complex"),
        (name("builtins", "bytes") + b"(NtR", "bytes from something"),
    ],
)
def test_bombs_and_damage(bomb, words, tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickled(bomb))
    refused(path, words)


def test_keys_that_collide_are_bounded(tmp_path):
    """Tuples of integers can be made to share a hash; only so many are taken as keys."""
    keys = b"".join(b"(K\x01" + number(i) + b"tN" for i in range(6000))
    (tmp_path / "x.pkl").write_bytes(pickled(b"}(" + keys + b"u"))
    refused(tmp_path / "x.pkl", "neither text nor number")


MANY = {
    "lists.pkl": (b"]" * 600_000, "more than 500000 objects"),
    "dicts.pkl": (b"}" * 600_000, "more than 500000 objects"),
    "filled_dicts.pkl": (b"}NNs" * 490_000 + b"0]" * 20_000, "more than 500000 objects"),
    "sets.pkl": (b"\x8f" * 600_000, "more than 500000 objects"),
    "names.pkl": (text("é") * 2_100_000, "more than 2000000 opcodes"),
    "floats.pkl": (b"G?\xf0\0\0\0\0\0\1" * 2_100_000, "more than 2000000 opcodes"),
    "pops.pkl": (b"N0" * 1_200_000, "more than 2000000 opcodes"),
    "memo.pkl": (b"N" + b"\x94" * 2_100_000, "more than 2000000 opcodes"),
    "text.pkl": (b"](" + text("x" * 65536) * 1100 + b"e", "more than 64 MiB of text"),
    "wide_text.pkl": (b"](" + text("\U0001f600" + "x" * 65000) * 1100 + b"e", "more than 64 MiB of text"),
}
READ_WITH_LITTLE_MEMORY = """
import resource, sys, time
from jvan.checkpoints.reader import read_checkpoint
from jvan.errors import CheckpointError
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (500 << 20),) * 2)
for path in sys.argv[1:]:
    begin = time.perf_counter()
    try:
        read_checkpoint(path)
        print("was read")
    except CheckpointError as error:
        print(error)
    assert time.perf_counter() - begin < 60
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space as Linux does")
def test_millions_of_objects_end_within_a_limit_on_memory(tmp_path):
    paths = [tmp_path / file for file in MANY]
    for path, (body, _) in zip(paths, MANY.values()):
        path.write_bytes(pickled(body))
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-c", READ_WITH_LITTLE_MEMORY, *map(str, paths)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=root)
    assert ran.returncode == 0, ran.stderr
    for line, path, (_, words) in zip(ran.stdout.splitlines(), paths, MANY.values()):
        assert line.startswith(f"{path}: ") and words in line
    assert len(ran.stdout.splitlines()) == len(MANY)


def test_encoding_the_same_text_again_and_again_is_bounded(tmp_path):
    again = name("_codecs", "encode") + b"(h\x00" + text("latin1") + b"tR0"
    (tmp_path / "x.pkl").write_bytes(pickled(text("x" * 65000) + b"q\x00" + again * 5000))
    refused(tmp_path / "x.pkl", "more than 64 MiB of text")


def test_a_string_of_python_2_is_counted_each_time(tmp_path):
    none = b"NNN" + number(-1) + number(-1) + number(0)
    dtype = name("numpy", "dtype") + b"(" + text("S65000") + b"\x89\x88tR" + b"(" + number(3) + text("|") + none + b"tb"
    again = name("numpy.core.multiarray", "scalar") + b"(h\x01h\x00tR"
    body = text("x" * 65000) + b"q\x00" + dtype + b"q\x01" + b"](" + again * 5000 + b"e"
    (tmp_path / "x.pkl").write_bytes(pickled(body))
    refused(tmp_path / "x.pkl", "more than 64 MiB of text", memory=160 << 20)


def test_sizes_of_many_dimensions_are_not_copied(tmp_path):
    size = name("torch", "Size") + b"(h\x00tR0"
    torch_zip(tmp_path / "x.pth", b"](" + b"N" * 200_000 + b"eq\x00" + size * 200)
    refused(tmp_path / "x.pth", "a torch size is damaged")


def test_a_pickle_that_is_cut_anywhere(tmp_path):
    whole = pickle.dumps({"model": {"w": np.arange(200.0)}, "meta": {"epoch": 1}}, 4)
    for length in range(1, len(whole), 3):
        path = tmp_path / "x.pkl"
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read(path)


def test_bytes_after_the_pickle(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickled(state(w=numpy_array())) + b"more")
    refused(tmp_path / "x.pkl", "4 bytes follow the end of the pickle")
