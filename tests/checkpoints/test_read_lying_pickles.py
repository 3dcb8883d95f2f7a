"""Pickles that lie about sizes, repeat or nest themselves, or are cut: one line, at once, without memory."""

from __future__ import annotations

import pickle

import pytest

from jvan.checkpoints.file_bytes import Source
from jvan.checkpoints.pickles.tree import check_tree, tensors_in
from jvan.checkpoints.pickles.unpickle import Unpickler
from jvan.checkpoints.reader import open_checkpoint
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


def from_type(kind: bytes, rebuild: bytes = name("torch._utils", "_rebuild_tensor_v2")) -> bytes:
    """A tensor that somebody gave attributes."""
    args = b"(" + torch_storage() + number(0) + numbers((2,)) + numbers((1,)) + b"\x89}t"
    return name("torch._tensor", "_rebuild_from_type_v2") + b"(" + rebuild + kind + args + b"}tR"


def test_a_tensor_with_attributes(tmp_path):
    path = torch_zip(tmp_path / "x.pth", state(w=from_type(name("torch", "Tensor"))))
    assert read(path)["w"].tolist() == [1, 2]


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
        (from_type(name("argparse", "Namespace")), "of the class"),
        (from_type(name("torch", "Tensor"), name("torch", "Size")), "a class of its own"),
        (from_type(b"N"), "a class of its own"),
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
