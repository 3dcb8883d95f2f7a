"""safetensors headers that lie, and the bounds of their JSON."""

from __future__ import annotations

import json

import pytest

from jvan.checkpoints.reader import open_checkpoint
from jvan.checkpoints.strict_json import parse_json
from jvan.errors import CheckpointError

from .crafted import ROW, bounded, read, refused, row, safetensors


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
