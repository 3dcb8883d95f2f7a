"""One shard, an index, a file with a path, a folder: the line says what lies there and what to give."""

from __future__ import annotations

import shutil

import pytest

from jvan.checkpoints.reader import open_checkpoint
from jvan.checkpoints.state import load_state
from jvan.errors import CheckpointError
from jvan.inspect import inspect_checkpoint
from jvan.inspect import main as inspect

from .tiny_states import GOLDEN

SHARDED = GOLDEN / "hf_tiny_sharded"
FIRST, INDEX = "model-00001-of-00003.safetensors", "model.safetensors.index.json"


def said(path) -> str:
    """Of the path, by convert and create_model; inspect says the same."""
    with pytest.raises(CheckpointError) as caught:
        load_state(path)
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).isprintable()
    return str(caught.value)[len(f"{path}: ") :]


def test_one_shard(tmp_path, capsys):
    path = SHARDED / FIRST
    assert said(path).endswith(f"; it is shard 1 of 3; give its folder, {SHARDED}")
    assert f"; it is shard 1 of 3; give its folder, {SHARDED}" in inspect_checkpoint(path)["problem"]
    assert inspect([str(path)]) == 0 and "shard 1 of 3" in capsys.readouterr().out
    alone = shutil.copy(path, tmp_path / FIRST)
    assert said(alone).endswith(f'{tmp_path}, once "{INDEX}" and the other shards are there')
    whole = shutil.copy(GOLDEN / "mmengine_tiny.pth", tmp_path / "pytorch_model-00001-of-00002.bin")
    assert load_state(whole).metadata.config.num_classes == 7  # a name alone refuses nothing
    named = tmp_path / "model-00001-of-00001.safetensors"
    assert "shard" not in said(shutil.copy(path, named))


def test_an_index():
    assert said(SHARDED / INDEX) == f"is the index of a checkpoint in shards; give its folder, {SHARDED}"


def test_a_file_with_a_path(tmp_path):
    path = tmp_path / "last_checkpoint"
    path.write_text("/far/away/epoch_3.pth\n")
    assert said(path) == 'is a text file that names "/far/away/epoch_3.pth"; give that file'
    beside = shutil.copy(GOLDEN / "mmengine_tiny.pth", tmp_path / "epoch_3.pth")
    assert said(path) == f'is a text file that names "{beside}"; give that file'
    path.write_bytes(b"evil\x1b[2J.pth")
    assert r'"evil\x1b[2J.pth"' in said(path)
    for other in (b"a line\nepoch_3.pth", b"some words", b"\xff\xfe.pth", b"x" * 5000 + b".pth"):
        path.write_bytes(other)
        assert "is in no format that is read here" in said(path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "is an empty folder; give a weights file"),
        (("a.jpg", "b.PNG", "notes.txt"), "is a folder of pictures (2), without weights; give a weights file"),
        (("log.csv", "last.safetensors", "best.safetensors"), 'give one of them: "best.safetensors", "last.safetensors"'),
        (("epoch_1.pth", "last_checkpoint"), 'give one of them: "epoch_1.pth"'),
        (("last_checkpoint", "log.json"), 'give the file that "last_checkpoint" in it names'),
        ([f"{number}.pth.tar" for number in range(9)], '"4.pth.tar" and 4 more'),
        ((FIRST,), f"holds shards without their index; download {INDEX} or pytorch_model.bin.index.json, too"),
        (("src", "evil\x1b[2J"), r'is a folder without weights (it has "evil\x1b[2J", "src"); give a weights file'),
    ],
)  # fmt: skip
def test_a_folder_of_other_files(names, words, tmp_path):
    for name in names:
        (tmp_path / name).touch()
    assert words in said(tmp_path)
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path)
