"""The resumable state: read back to the bit, verified, kept and removed, never half-written."""

import errno
import os

import numpy as np
import pytest

from jvan.checkpoints.reader import open_checkpoint
from jvan.engine import resume as module
from jvan.engine.resume import Progress, newest_state, read_state_file, save_state_file, state_files
from jvan.errors import TrainingError

TENSORS = {
    "model.a": np.array([[1.5, -0.0], [np.nan, np.inf]], np.float32),
    "model.empty": np.zeros((0, 3), np.float32),
    "mean.a": np.arange(7, dtype=np.float32),
}


def save(folder, step, keep=2, tensors=TENSORS, **progress):
    return save_state_file(folder, tensors, Progress(step=step, **progress), '{"a": 1}', "digest", keep)


def steps(folder):
    return [int(path.name[5:14]) for path in state_files(folder)]


def test_comes_back_bit_for_bit(tmp_path):
    path = save(tmp_path, 12, validated=1, best=0.25, best_step=9)
    saved = read_state_file(path)
    assert saved.progress == Progress(12, 1, best=0.25, best_step=9) and (saved.config, saved.data) == (
        '{"a": 1}',
        "digest",
    )
    assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in saved.tensors.items()} == {
        n: (a.dtype, a.shape, a.tobytes()) for n, a in TENSORS.items()
    }


def test_is_a_safetensors_file_for_others(tmp_path):
    from safetensors.numpy import load_file

    path = save(tmp_path, 1)
    assert load_file(path)["mean.a"].tobytes() == TENSORS["mean.a"].tobytes()
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == "safetensors"


def test_keeps_the_last_and_the_best(tmp_path):
    for step in range(1, 8):
        save(tmp_path, step, keep=2, best_step=3)
    assert steps(tmp_path) == [7, 6, 3]
    save(tmp_path, 8, keep=1, best_step=8)
    assert steps(tmp_path) == [8]


@pytest.mark.parametrize("damage", ["bit", "short", "empty", "header"])
def test_a_damaged_state_is_named_and_the_older_one_taken(tmp_path, damage):
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[-3] ^= 1
    elif damage == "header":
        content[20] ^= 1
    path.write_bytes(content[:-5] if damage == "short" else b"" if damage == "empty" else content)
    said = []
    assert newest_state(tmp_path, said.append).progress.step == 1
    assert len(said) == 1 and path.name in said[0] and "\n" not in said[0]


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_state_does_not_crowd_out_what_is_saved_after_it(tmp_path, keep):
    save(tmp_path, 5)
    save(tmp_path, 9).write_bytes(b"")
    assert newest_state(tmp_path, print).progress.step == 5
    save(tmp_path, 6, keep)
    assert steps(tmp_path) == [6, 5][:keep]
    save(tmp_path, 7, keep)
    assert steps(tmp_path) == [7, 6][:keep]


def test_all_damaged_is_an_error_and_none_is_none(tmp_path):
    assert newest_state(tmp_path, print) is None
    save(tmp_path, 1).write_bytes(b"no")
    with pytest.raises(TrainingError, match="all 1 states"):
        newest_state(tmp_path, str)


@pytest.mark.parametrize("when", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_older_state(tmp_path, monkeypatch, when):
    save(tmp_path, 1)

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if when == "write":
        monkeypatch.setattr(module, "_write", lambda path, *rest: (path.write_bytes(b"half"), full()))
    else:
        monkeypatch.setattr(os, when, full)
    with pytest.raises(OSError, match="No space left") as caught:
        save(tmp_path, 2)
    assert caught.value.filename.endswith("step-000000002.safetensors")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["step-000000001.safetensors"]
    assert newest_state(tmp_path, print).progress.step == 1


def test_what_does_not_read_back_is_not_kept(tmp_path, monkeypatch):
    save(tmp_path, 1)
    honest = module._write

    def lossy(path, tensors, about):
        honest(path, {**tensors, "mean.a": tensors["mean.a"] + 1}, about)

    monkeypatch.setattr(module, "_write", lossy)
    with pytest.raises(TrainingError, match="digest"):
        save(tmp_path, 2)
    assert steps(tmp_path) == [1] and len(os.listdir(tmp_path)) == 1
