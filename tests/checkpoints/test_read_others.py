"""safetensors headers that lie, wrappers, folders, metadata, files that are no checkpoints, and what reading costs."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from jvan.checkpoints.metadata import Metadata
from jvan.checkpoints.reader import open_checkpoint, read_checkpoint
from jvan.checkpoints.strict_json import parse_json
from jvan.errors import CheckpointError
from jvan.variants import variant_config

from .crafted import (
    ARRAY,
    bounded,
    name,
    number,
    numpy_array,
    pickled,
    read,
    refused,
    safetensors,
    sealed,
    state,
    text,
    torch_storage,
    torch_tensor,
    torch_zip,
)

ROW = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def row(**changes) -> dict:
    return {"w": {**ROW, **changes}}


def test_a_good_safetensors_file(tmp_path):
    path = safetensors(tmp_path / "x", {"__metadata__": {"format": "pt"}, **row()})
    assert read(path)["w"].tolist() == [1, 2]
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.header == {"format": "pt"} and checkpoint.metadata is None
    padded = safetensors(tmp_path / "x", json.dumps(row()) + "   ")
    assert read(padded)["w"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "header, words",
    [
        ('{"w": ' + json.dumps(ROW) + ', "w": ' + json.dumps(ROW) + "}", "the key 'w' twice"),
        ('{"w": {"dtype": "F32", "dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', "the key 'dtype' twice"),
        (row(shape=[3]), "needs more than the 2 elements"),
        (row(shape=[1]), "of 4 bytes is given 8"),
        (row(shape=[-2]), "not counts of 0 or more"),
        (row(shape=[1 << 40, 1 << 40]), "needs more than the 2 elements"),
        (row(shape=[1 << 64]), "not counts of 0 or more"),
        (row(shape=[0, 1 << 61]), "impossible shape"),
        (row(shape=[2.0]), "not counts of 0 or more"),
        (row(shape=[True, 2]), "not counts of 0 or more"),
        (row(shape=["2"]), "not counts of 0 or more"),
        (row(shape=2), "not counts of 0 or more"),
        (row(shape=[1] * 40), "a tensor has shape"),
        (row(dtype="F33"), 'has the dtype "F33"'),
        (row(dtype=["F32"]), "has the dtype"),
        (row(dtype="F8_E4M3", shape=[8]), "float8_e4m3fn"),
        (row(data_offsets=[0, 4]), "needs more than the 1 elements"),
        (row(data_offsets=[0, 16]), "lies outside the file"),
        (row(data_offsets=[8, 0]), "lies outside the file"),
        (row(data_offsets=[-8, 0]), "lies outside the file"),
        (row(data_offsets=[0, 8, 9]), "damaged data_offsets"),
        (row(data_offsets=[0.0, 8.0]), "damaged data_offsets"),
        (row(data_offsets=[0, 1 << 70]), "lies outside the file"),
        (row(more=1), "is not described by"),
        ({"w": {"dtype": "F32", "shape": [2]}}, "is not described by"),
        ({"w": 3}, "is not described by"),
        ({"v": ROW, "w": ROW}, "overlaps another"),
        ({"v": {**ROW, "shape": [1], "data_offsets": [0, 4]}}, "4 bytes belong to no tensor"),
        ({"v": {**ROW, "shape": [1], "data_offsets": [4, 8]}}, "follows a gap"),
        ({}, "8 bytes belong to no tensor"),
        ({"__metadata__": {"a": 1}, **row()}, "metadata is not text alone"),
        ({"__metadata__": [], **row()}, "metadata is not text alone"),
        ("{" * 100_000, "nested more than 32 levels deep"),
        ('{"w":' + "[" * 100_000, "nested more than 32 levels deep"),
        ("{", "no valid JSON"),
        ('{"w": NaN}', "holds NaN"),
        ('{"w": ' + "9" * 100_000 + "}", "enormous number"),
        (b'{"\xff": 1}', "not UTF-8"),
        ("{} {}", "no valid JSON"),
    ],
)
def test_lying_safetensors(header, words, tmp_path):
    refused(safetensors(tmp_path / "x.safetensors", header), words)


def test_dtypes_that_numpy_lacks_are_shown_and_not_given(tmp_path):
    path = safetensors(tmp_path / "x", row(dtype="F8_E5M2", shape=[8]))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.tree["w"].dtype == "float8_e5m2" and checkpoint.tree["w"].shape == (8,)
        with pytest.raises(CheckpointError, match="dtypes that are not read"):
            checkpoint.tensors()


@pytest.mark.parametrize("length", [0, 1, 1 << 20, 1 << 40, (1 << 64) - 1])
def test_safetensors_lengths_that_lie(length, tmp_path):
    refused(safetensors(tmp_path / "x", row(), length=length), "")


def test_an_empty_safetensors_file_holds_no_weights(tmp_path):
    refused(safetensors(tmp_path / "x", {}, b""), "holds no state dict (it is empty)")


def test_json_is_bounded():
    for text_, words in ((b"[1]" + b" " * 100, "at most 50"), (b'"\\"[[[["' + b"[" * 40, "levels deep")):
        with pytest.raises(ValueError, match=words):
            parse_json(text_, 50)
    assert parse_json(b'{"a": ["[[[[", "\\\\", "]"]}', 100) == {"a": ["[[[[", "\\", "]"]}


# Wrappers

W, V = state(w=torch_tensor()), state(v=torch_tensor())


def tensor_names(path, **options) -> list[str]:
    return list(read_checkpoint(path, **options))


@pytest.mark.parametrize(
    "body, plain, averaged",
    [
        (W, "w", None),
        (state(state_dict=W, epoch=number(3)), "w", None),
        (state(model=W, meta=state(epoch=number(3)), optimizer=state(m=torch_tensor())), "w", None),
        (state(state_dict=state(model=W)), "w", None),
        (state(state_dict=W, state_dict_ema=V), "w", "v"),
        (state(model=W, model_ema=V), "w", "v"),
        (state(model=W, ema=state(state_dict=V)), "w", "v"),
        (state(checkpoint=number(1), state_dict=state(model=W, model_ema=V)), "w", "v"),
        # mmengine keeps the averaged weights under state_dict, and the others under ema_state_dict
        (state(state_dict=W, ema_state_dict=V, message_hub=b"}"), "w", "w"),
        (state(state_dict=W, model=text("van_b0")), "w", None),
        (state(state_dict=W, model=b"}"), "w", None),
        (state(state_dict=W + b"q\x70", model=b"h\x70"), "w", None),
        (name("collections", "OrderedDict") + b")R(" + text("w") + torch_tensor() + b"u", "w", None),
    ],
)
def test_wrappers_are_peeled(body, plain, averaged, tmp_path):
    path = torch_zip(tmp_path / "x.pth", body)
    assert tensor_names(path) == [plain]
    if averaged:
        assert tensor_names(path, ema=True) == [averaged]
    else:
        with pytest.raises(CheckpointError, match="holds no averaged weights"):
            read_checkpoint(path, ema=True)


@pytest.mark.parametrize(
    "body, words",
    [
        (state(state_dict=W, model=V), 'holds several state dicts ("state_dict", "model")'),
        (state(state_dict_ema=W), "averaged weights alone"),
        (state(w=torch_tensor(), epoch=number(3)), 'mixes tensors with other entries ("epoch")'),
        (state(state_dict=state(w=torch_tensor(), n=b"N")), 'mixes tensors with other entries ("n")'),
        (state(net=W), 'holds no state dict (its entries: "net")'),
        (state(epoch=number(3)), 'holds no state dict (its entries: "epoch")'),
        (b"}", "holds no state dict (it is empty)"),
        (b"]", "holds a list of 0 where"),
        (torch_tensor(), "holds a tensor of float32, 2 where"),
        (b"N", "holds nothing where"),
        (name("argparse", "Namespace") + b")\x81", 'an object of "argparse.Namespace"'),
        (b"}" + number(1) + torch_tensor() + b"s", 'something that is no text ("1")'),
        (b"}(" + text("1") + torch_tensor() + number(1) + torch_tensor() + b"u", 'something that is no text ("1")'),
        (b"}C\x01w" + torch_tensor() + b"s", "something that is no text"),
        (state(model=state(model=state(model=state(model=state(model=state(model=W)))))), "wrappers deep"),
    ],
)
def test_trees_without_one_clear_state_dict(body, words, tmp_path):
    refused(torch_zip(tmp_path / "x.pth", body), words)


# Folders


def folder(root: Path, index=None, **files) -> Path:
    root.mkdir(exist_ok=True)
    (root / "config.json").write_text(json.dumps({"model_type": "van", "num_labels": 3}))
    for key, names in files.items():
        header = {n: {**ROW, "data_offsets": [8 * i, 8 * i + 8]} for i, n in enumerate(names)}
        safetensors(root / f"{key}.safetensors", header, ARRAY * len(names))
    if index is not None:
        (root / "model.safetensors.index.json").write_text(index if isinstance(index, str) else json.dumps(index))
    return root


def shards(**names) -> dict:
    return {"metadata": {}, "weight_map": names}


def test_a_folder_of_one_file(tmp_path):
    path = folder(tmp_path / "hf", model=["a", "b"])
    with open_checkpoint(path) as checkpoint:
        assert sorted(checkpoint.tensors()) == ["a", "b"] and checkpoint.config["num_labels"] == 3
        assert checkpoint.files == [path / "model.safetensors"] and checkpoint.format == "safetensors"


def test_a_folder_of_shards(tmp_path):
    path = folder(tmp_path / "hf", shards(a="one.safetensors", b="two.safetensors"), one=["a"], two=["b"])
    assert sorted(read(path)) == ["a", "b"]
    assert len(open_checkpoint(path).files) == 2


def test_a_folder_of_pytorch_shards(tmp_path):
    torch_zip(tmp_path / "one.bin", W)
    torch_zip(tmp_path / "two.bin", V)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(shards(w="one.bin", v="two.bin")))
    assert sorted(read(tmp_path)) == ["v", "w"]


@pytest.mark.parametrize(
    "index, words",
    [
        (shards(a="../one.safetensors"), "outside its folder"),
        (shards(a="/etc/passwd"), "outside its folder"),
        (shards(a="sub/one.safetensors"), "outside its folder"),
        (shards(a=".."), "outside its folder"),
        (shards(a=""), "outside its folder"),
        (shards(a="one\0.safetensors"), "outside its folder"),
        (shards(a="one.safetensors", b="three.safetensors"), '"three.safetensors", which is missing'),
        (shards(a="one.safetensors", b="again.safetensors"), 'the tensor "a" is in two shards'),
        (shards(a="one.safetensors", c="two.safetensors"), "weight_map"),
        (shards(a=1), "no weight_map"),
        (shards(), "no weight_map"),
        ({}, "no weight_map"),
        ([], "no weight_map"),
        ("{", "is damaged"),
        ('{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}', "twice"),
        ("[" * 100_000, "levels deep"),
    ],
)
def test_indexes_that_lie(index, words, tmp_path):
    path = folder(tmp_path / "hf", index, one=["a"], two=["b"], again=["a"])
    with bounded(), pytest.raises(CheckpointError, match=words) as caught:
        read(path)
    assert str(caught.value).startswith(str(path)) and str(caught.value).isprintable()


def test_an_empty_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"is a folder without model.safetensors or pytorch_model.bin"):
        read(tmp_path)


# Metadata

METADATA = Metadata(variant_config("van_b0", num_classes=3), labels=("a", "b", "c"), source="x.pth")


def test_metadata_inside_safetensors_and_beside_others(tmp_path):
    inside = safetensors(tmp_path / "x.safetensors", {"__metadata__": {"jvan": METADATA.to_json()}, **row()})
    beside = torch_zip(tmp_path / "x.pth", W)
    (tmp_path / "x.pth.json").write_text(METADATA.to_json())
    for path in (inside, beside):
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.metadata == METADATA


@pytest.mark.parametrize(
    "document", ["", "{}", "[]", "nonsense", "[" * 100_000, '{"format": 1}', METADATA.to_json()[:-1], "\ud800"]
)
def test_malformed_metadata(document, tmp_path):
    beside = torch_zip(tmp_path / "x.pth", W)
    (tmp_path / "x.pth.json").write_bytes(document.encode(errors="surrogatepass"))
    with pytest.raises(CheckpointError, match=r"x.pth.json: .*metadata") as caught:
        read(beside)
    assert str(caught.value).isprintable()
    inside = safetensors(tmp_path / "x.safetensors", {"__metadata__": {"jvan": document}, **row()})
    with pytest.raises(CheckpointError, match="metadata"):
        read(inside)


# Files that are no checkpoints


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return out.getvalue()


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html>\n<html>not found</html>", "is a web page"),
        (b"<?xml version='1.0'?><Error/>", "is a web page or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (gzip.compress(b"x"), "compressed with gzip"),
        (b"BZh9", "compressed with bzip2"),
        (b"\xfd7zXZ\0", "compressed with xz"),
        (b"\x28\xb5\x2f\xfd\0", "compressed with zstd"),
        (tarred(), "is a tar archive"),
        (b"\x93NUMPY\1\0", "single numpy array"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"GGUF\3\0\0\0", "GGUF"),
        (b"hello", "in no format that is read here"),
        (b"\0" * 4096, "in no format that is read here"),
        (b"\x1b[31mred", "in no format that is read here"),
        (b"classes are words", "in no format that is read here"),
        (b"\x80", "the pickle ends in the middle"),
        (b".", "in no format that is read here"),
    ],
)
def test_files_that_are_no_checkpoints(content, words, tmp_path):
    (tmp_path / "weights.pth").write_bytes(content)
    refused(tmp_path / "weights.pth", words)


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "nothing.pth")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "no regular file")
    with pytest.raises(CheckpointError, match="no regular file"):
        read_checkpoint("/dev/zero")


# Cost

MEASURE = """
import resource, sys
from jvan.checkpoints.reader import read_checkpoint
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tensors = read_checkpoint(sys.argv[1])
print(len(tensors), sum(t.nbytes for t in tensors.values()), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
"""


@pytest.mark.parametrize("kind", ["torch", "jittor"])
def test_only_the_model_is_read(kind, tmp_path):
    """128 MB of optimiser state beside a model of 1 MB: the process grows by no more than what one piece needs."""
    path, model, rest = tmp_path / "x", np.arange(1 << 18, dtype=np.float32).tobytes(), bytes(128 << 20)
    if kind == "torch":
        tensor = torch_tensor(shape=(1 << 18,), storage=torch_storage(count=1 << 18))
        other = torch_tensor((32 << 20,), storage=torch_storage("1", 32 << 20))
        torch_zip(path, state(state_dict=state(w=tensor), optimizer=state(m=other)), {"0": model, "1": rest})
    else:
        arrays = [numpy_array(shape=(len(data) // 4,), data=data) for data in (model, rest)]
        path.write_bytes(sealed(pickled(state(model=state(w=arrays[0]), optimizer=state(m=arrays[1])))))
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-c", MEASURE, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, timeout=120)
    count, size, grown = map(int, ran.stdout.split())
    assert (count, size) == (1, 1 << 20)
    assert grown < 64 << 20


def test_long_arrays_of_a_pickle_stay_in_the_file(tmp_path):
    """Bytes, and the text that protocol 2 makes of them, are not read with the tree."""
    import pickle

    arrays = {f"w{i}": np.full(1 << 20, i, np.float32) for i in range(8)}
    for protocol in (2, 4, 5):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps({"model": {"w0": arrays["w0"]}, "optimizer": arrays}, protocol))
        with bounded(8 << 20), open_checkpoint(path) as checkpoint:
            tensors = checkpoint.tensors()
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.tree["optimizer"]["w3"].numpy().tolist()[:2] == [3, 3]
        assert list(tensors) == ["w0"]


def test_a_file_of_many_tensors_is_opened_quickly(tmp_path):
    body = state(**{f"layer{i}.weight": numpy_array() for i in range(5000)})
    (tmp_path / "x.pkl").write_bytes(pickled(body))
    begin = time.perf_counter()
    assert len(read(tmp_path / "x.pkl")) == 5000
    assert time.perf_counter() - begin < 30


@pytest.mark.parametrize(
    "text_",
    [
        '{"' + '\\"' * 4_000_000,
        '"' * 4_000_001,
        "[" + "1," * 500_000 + "1]",
        "[" + "[]," * 500_000 + "1]",
        "{" * 8_000_000,
    ],
    ids=["escapes", "quotes", "numbers", "lists", "braces"],
)
def test_json_bombs_end(text_):
    with bounded(80 << 20), pytest.raises(ValueError):
        parse_json(text_.encode(), 8 << 20)
