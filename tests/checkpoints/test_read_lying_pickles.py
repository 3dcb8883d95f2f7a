"""Pickles that lie about sizes, repeat or nest themselves, or are cut: one line, at once, without memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jvan.checkpoints.reader import open_checkpoint
from jvan.checkpoints.source import Source
from jvan.checkpoints.tree import check_tree, tensors_in
from jvan.checkpoints.unpickle import Unpickler
from jvan.errors import CheckpointError

from .crafted import (
    ARRAY,
    bounded,
    name,
    number,
    numbers,
    numpy_array,
    pickled,
    read,
    refused,
    sealed,
    state,
    text,
    torch_legacy,
    torch_storage,
    torch_tensor,
    torch_zip,
)

HUGE = 1 << 40


def test_the_crafted_files_are_good_where_they_do_not_lie(tmp_path):
    for path in (
        torch_zip(tmp_path / "zip.pth", state(w=torch_tensor())),
        torch_legacy(tmp_path / "legacy.pth", state(w=torch_tensor())),
    ):
        assert read(path)["w"].tolist() == [1, 2]
    for data in (pickled(state(w=numpy_array())), sealed(pickled(state(w=numpy_array())))):
        (tmp_path / "x.pkl").write_bytes(data)
        assert read(tmp_path / "x.pkl")["w"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "tensor, words",
    [
        (torch_tensor(shape=(3,)), "needs more than the 2 elements"),
        (torch_tensor(offset=1), "needs more than the 2 elements"),
        (torch_tensor(strides=(2,)), "needs more than the 2 elements"),
        (torch_tensor(shape=(1, 2), strides=(9, 2)), "needs more than the 2 elements"),
        (torch_tensor(offset=HUGE), "needs more than the 2 elements"),
        (torch_tensor(offset=-1), "not counts of 0 or more"),
        (torch_tensor(shape=(-2,)), "not counts of 0 or more"),
        (torch_tensor(strides=(-1,)), "not counts of 0 or more"),
        (torch_tensor(shape=(1 << 70,)), "not counts of 0 or more"),
        (torch_tensor(shape=(-1, -2), strides=(1, 1)), "not counts of 0 or more"),
        (torch_tensor(shape=(HUGE,), strides=(0,)), "needs more than the 2 elements"),
        (torch_tensor(shape=(HUGE, HUGE, HUGE), strides=(0, 0, 0)), "needs more than the 2 elements"),
        (torch_tensor(shape=(1000, 1000), strides=(0, 0)), "needs more than the 2 elements"),
        (torch_tensor(shape=(0, HUGE, HUGE), strides=(1, 1, 1)), "impossible shape"),
        (torch_tensor(shape=(1 << 32, 1 << 32), strides=(1, 1)), "needs more than the 2 elements"),
        (torch_tensor(shape=(1,) * 40, strides=(1,) * 40), "a tensor has shape"),
        (torch_tensor(shape=(2,), strides=(1, 1)), "a tensor has shape"),
        (torch_tensor(shape=(2, 1), strides=(1,)), "a tensor has shape"),
        (torch_tensor().replace(numbers((2,)), b"(\x88t"), "not counts of 0 or more"),
        (torch_tensor().replace(numbers((2,)), b"(G@\0\0\0\0\0\0\0t"), "not counts of 0 or more"),
        (torch_tensor().replace(numbers((2,)), b"(((ttt"), "not counts of 0 or more"),
        (torch_tensor().replace(numbers((2,)), b"N"), "not counts of 0 or more"),
        (torch_tensor().replace(numbers((2,)), text("2")), "not counts of 0 or more"),
        (torch_tensor(storage=torch_storage(count=3)), "it is damaged"),
        (torch_tensor(storage=torch_storage(count=-2)), "not described as torch does"),
        (torch_tensor(storage=torch_storage(count=1 << 62)), "not described as torch does"),
        (torch_tensor(storage=torch_storage(count=HUGE)), "it is damaged"),
        (torch_tensor(storage=torch_storage(kind="DoubleStorage")), "damaged"),
        (torch_tensor(storage=torch_storage(key="../0")), "damaged"),
        (torch_tensor(storage=torch_storage(key="7")), "is"),
        (torch_tensor(storage=b"N"), "no storage"),
        (torch_tensor(storage=text("x") + b"Q"), "not described as torch does"),
        (torch_tensor(storage=b")Q"), "not described as torch does"),
        (torch_tensor(storage=b"Px\n"), "not described as torch does"),
        (torch_storage(), "mixes tensors|holds no state dict"),
        (name("torch._utils", "_rebuild_tensor_v2") + b")R", "wrong number of parts"),
        (name("torch._utils", "_rebuild_tensor_v3") + b")R", "wrong number of parts"),
        (name("torch._utils", "_rebuild_parameter") + b")R", "holds no tensor"),
        (name("torch._utils", "_rebuild_parameter") + b"(NtR", "holds no tensor"),
        (name("torch", "Size") + b"(NtR", "torch size is damaged"),
    ],
)
def test_lying_torch_tensors(tensor, words, tmp_path):
    for write, file in ((torch_zip, "zip.pth"), (torch_legacy, "legacy.pth")):
        path = write(tmp_path / file, state(w=tensor))
        with bounded(), pytest.raises(CheckpointError, match=words) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ") and str(caught.value).isprintable()


ARRAY_LIES = [
    (numpy_array(shape=(3,)), "needs more than the 2 elements"),
    (numpy_array(shape=(1,)), "8 bytes claims the shape of 4"),
    (numpy_array(shape=(0,)), "8 bytes claims the shape of 0"),
    (numpy_array(shape=(-2,)), "not counts of 0 or more"),
    (numpy_array(shape=(HUGE, HUGE)), "needs more than the 2 elements"),
    (numpy_array(shape=(0, 1 << 60), data=b""), "impossible shape"),
    (numpy_array(shape=(1,) * 65, data=b"\0\0\0\0"), "a tensor has shape"),
    (numpy_array(code="f8"), "needs more than the 1 elements"),
    (numpy_array(code="f16"), "dtype that is not read"),
    (numpy_array(code="O8"), "Python objects"),
    (numpy_array(code="|O"), "Python objects"),
    (numpy_array(code="f4,f4"), "dtype that is not read"),
    (numpy_array(code="U2", data=b"\0" * 16), "dtypes that are not read"),
    (numpy_array(code="S4"), "dtypes that are not read"),
    (numpy_array(code="V4"), "dtypes that are not read"),
    (numpy_array(code="M8", data=b"\0" * 16), "dtypes that are not read"),
    (numpy_array(order="?"), "damaged numpy dtype"),
    (numpy_array().replace(b"NNN", text("x") + b"NN"), "array of records"),
    (numpy_array().replace(b"NNN", b"N)N"), "array of records"),
    (numpy_array().replace(b"B\x08\0\0\0" + ARRAY, b"]"), "data, dtype or shape is damaged"),
    (numpy_array().replace(b"B\x08\0\0\0" + ARRAY, text("жжжж")), "data, dtype or shape is damaged"),
    (numpy_array().replace(b"B\x08\0\0\0" + ARRAY, b"N"), "data, dtype or shape is damaged"),
    (numpy_array(state=b"N"), "damaged numpy array"),
    (numpy_array(state=b")"), "damaged numpy array"),
    (numpy_array() + b"Nb", "gives a state to an object that has none"),
    (numpy_array()[:-1] + b"0", "an array without its contents"),
    (name("numpy.core.multiarray", "_reconstruct") + b")R", "no plain array"),
    (name("numpy.core.multiarray", "_reconstruct") + b"(" + name("numpy", "dtype") + b")NtR", "no plain array"),
    (name("numpy", "dtype") + b")R", "dtype that is not read"),
    (name("numpy.core.multiarray", "scalar") + b")R", "damaged numpy scalar"),
    (name("numpy.core.multiarray", "scalar") + b"(NNtR", "data, dtype or shape is damaged"),
    (name("numpy.core.numeric", "_frombuffer") + b"(NNNNtR", "damaged numpy array"),
    (name("jittor_core", "Var") + b"(NtR", "holds no tensor"),
]


@pytest.mark.parametrize("array, words", ARRAY_LIES)
def test_lying_numpy_arrays_under_a_good_checksum(array, words, tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(sealed(pickled(state(w=array))))
    refused(path, words)


def test_a_wrong_checksum(tmp_path):
    data = bytearray(sealed(pickled(state(w=numpy_array()))))
    data[data.index(ARRAY)] ^= 1
    (tmp_path / "x.pkl").write_bytes(data)
    refused(tmp_path / "x.pkl", "does not match its checksum")


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


@pytest.mark.parametrize("times", [1, 40])
def test_the_same_tensor_many_times_is_bounded(times, tmp_path):
    """Two thousand names for one storage of 4 MB are 8 GB; a few, as tied weights are, may be."""
    storage, count = b"\0" * (1 << 22), 1 << 20
    tensor = torch_tensor(shape=(count,), storage=torch_storage(count=count))
    many = b"}(" + text("t0") + tensor + b"q\x63" + b"".join(text(f"t{i}") + b"h\x63" for i in range(1, times)) + b"u"
    path = torch_zip(tmp_path / "x.pth", many, {"0": storage})
    if times == 1:
        assert read(path)["t0"].nbytes == 4 << 20
    else:
        refused(path, "its tensors claim 167772160 bytes in a file of 419")


def test_legacy_storages_that_lie(tmp_path):
    body, path = state(w=torch_tensor()), tmp_path / "x.pth"
    for storages, words in (
        (((3, ARRAY),), "has 3 elements, but 2 are claimed"),
        (((-1, ARRAY),), "has -1 elements, but 2 are claimed"),
        (((2, ARRAY[:-1]),), "lie outside"),
        (((2, ARRAY + b"x"),), "1 bytes follow the last storage"),
        ((), "lie outside"),
    ):
        refused(torch_legacy(path, body, storages=storages), words)
    run = (2, ARRAY)
    for keys, words in (
        (("1",), "not that of the tensors"),
        ((), "not that of the tensors"),
        (("0", "0"), "list of storages is damaged"),
        (("0", "1"), "not that of the tensors"),
    ):
        refused(torch_legacy(path, body, keys=keys, storages=[run] * len(keys)), words)
    refused(torch_legacy(path, body, system=state(little_endian=b"\x89")), "big-endian")
    refused(torch_legacy(path, body, system=b"N"), "big-endian")
    both = torch_tensor() + b"0" + torch_tensor(shape=(1,), storage=torch_storage(kind="DoubleStorage", count=1))
    refused(torch_legacy(path, state(w=both)), "described in two ways")


def view(start: int, count: int) -> bytes:
    return b"(" + text("1") + number(start) + number(count) + b"t"


def legacy_view(metadata: bytes) -> bytes:
    return torch_storage()[:-2] + metadata + b"tQ"


def test_legacy_storages_that_are_parts_of_others(tmp_path):
    """view_metadata, which PyTorch before 0.4 wrote."""
    tensor = torch_tensor(shape=(1,), storage=legacy_view(view(1, 1)))
    assert read(torch_legacy(tmp_path / "x.pth", state(w=tensor)))["w"].tolist() == [2]
    for metadata in (view(1, 2), view(HUGE, 1), view(-1, 1), b")", b"K\x01"):
        tensor = torch_tensor(shape=(1,), storage=legacy_view(metadata))
        refused(torch_legacy(tmp_path / "x.pth", state(w=tensor)), "lies outside the one that it is a part of")
    beyond = torch_tensor(shape=(2,), storage=legacy_view(view(1, 1)))
    refused(torch_legacy(tmp_path / "x.pth", state(w=beyond)), "needs more than the 1 elements")


def test_old_ways_of_writing_tensors(tmp_path):
    """_rebuild_tensor, and storages of torch.cuda."""
    old = torch_tensor().replace(b"_rebuild_tensor_v2", b"_rebuild_tensor").replace(b"\x89}tR", b"tR")
    cuda = torch_tensor().replace(b"ctorch\n", b"ctorch.cuda\n")
    path = torch_zip(tmp_path / "x.pth", state(old=old, cuda=cuda))
    assert {key: array.tolist() for key, array in read(path).items()} == {"old": [1, 2], "cuda": [1, 2]}


def test_a_small_expanded_tensor(tmp_path):
    path = torch_zip(tmp_path / "x.pth", state(w=torch_tensor(shape=(3, 2), strides=(0, 1))))
    assert read(path)["w"].tolist() == [[1, 2]] * 3


def test_the_tree_walks_do_not_recurse():
    deep: list = []
    for _ in range(200_000):
        deep = [deep]
    source = Source("x", b"x")
    with pytest.raises(CheckpointError, match="levels deep"):
        check_tree(deep, source)
    assert list(tensors_in(deep)) == []
    while deep:
        deep = deep[0]


def test_depth_is_counted_through_shared_parts():
    shared: list = [1]
    for _ in range(50):
        shared = [shared]
    outer = shared
    for _ in range(50):
        outer = [outer]
    with pytest.raises(CheckpointError, match="levels deep"):
        check_tree([shared, outer], Source("x", b"x"))
    check_tree([shared, shared], Source("x", b"x"))


def test_a_closed_checkpoint_says_so(tmp_path):
    path = torch_zip(tmp_path / "x.pth", state(w=torch_tensor()))
    with open_checkpoint(path) as checkpoint:
        tensor = checkpoint.tensors()["w"]
    with pytest.raises(CheckpointError, match="is closed"):
        tensor.numpy()


def test_the_machine_reads_what_pickle_writes():
    """Plain data of every kind, at every protocol."""
    value = {
        "text": "жук\n\\u0041",
        "numbers": [0, 1, -1, 255, 65536, -(2**31), 2**40, -(2**63), 2**200, 0.5, -1e300, True, False, None],
        "bytes": [b"", b"abc", bytes(range(256))],
        "nested": {"a": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)], 5: {}, (1, "x"): []},
        "complex": 1 + 2j,
    }
    for protocol in range(6):
        data = pickle.dumps(value, protocol)
        machine = Unpickler(Source("x", data))
        assert machine.load() == value and machine.end == len(data)


def test_python_2_strings():
    data = b"(dp0\nS'a'\np1\nI1\nsU\x01bT\x02\0\0\0cdsU\x02\xff\xfeNs."
    assert Unpickler(Source("x", data)).load() == {"a": 1, "b": "cd", b"\xff\xfe": None}
