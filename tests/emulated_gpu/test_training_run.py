"""`jvan train --dtype float16` from pictures to weights, the kernels run on the host: steps that overflow, and going on."""

import csv

import pytest

from jvan.classification.task import TASK
from jvan.engine.loop import train
from jvan.engine.resume import read_state_file, state_files
from jvan.errors import TrainingError
from jvan.ops.cuda import launch as cuda
from tests.engine.drawn import draw_folder
from tools.cuda_emulator.backend import Emulated

ARCH = "van_b0:embed_dims=8,8,8,8:depths=1,1,1,1:mlp_ratios=2,2,2,2"
GIVEN = {
    "arch": ARCH, "img_size": 32, "batch_size": 4, "epochs": 2, "workers": 0, "log_every": 1, "device": "cpu", "lr": 1e-3,
    "model_ema": 0.9, "dtype": "float16",
}  # fmt: skip

FIRST = 2.0**23  # the first two steps overflow


@pytest.fixture
def run(emulator, tmp_path, monkeypatch):
    """Trains into a folder of this name; -> (what was said, the last state)."""
    data = draw_folder(tmp_path / "data" / "train", classes=("ant", "bee"), each=4).parent
    draw_folder(data / "val", classes=("ant", "bee"), each=1)
    monkeypatch.setattr("jvan.engine.run.FIRST", FIRST)

    def train_into(name, **changes):
        said = []
        train(TASK.make_config({**GIVEN, "data": str(data), "output": str(tmp_path / name), **changes}), said.append)
        return said, read_state_file(state_files(tmp_path / name / "state")[0])

    with cuda.use_backend(Emulated(emulator)):
        yield train_into


def test_steps_that_overflow_are_skipped_and_a_run_goes_on_bit_for_bit(run, tmp_path):
    said, whole = run("whole")
    skipped = [line for line in said if "overflow float16 and are left out" in line]
    assert whole.progress.step == 4 and 1 <= whole.progress.skipped == len(skipped) <= 3
    assert whole.progress.loss_scale == FIRST / 2**whole.progress.skipped
    run("parts", max_steps=1)
    _, parts = run("parts", resume=True)
    assert scale(parts.progress) == scale(whole.progress) and parts.tensors.keys() == whole.tensors.keys()
    assert all(whole.tensors[name].tobytes() == parts.tensors[name].tobytes() for name in whole.tensors)
    assert {array.dtype.name for array in whole.tensors.values()} == {"float32"}
    for name in ("whole", "parts"):
        with open(tmp_path / name / "log.csv", newline="") as file:
            scales = [float(row["loss_scale"]) for row in csv.DictReader(file)]
        assert len(scales) == 4 and scales[0] == FIRST / 2 and scales[-1] == whole.progress.loss_scale


def scale(progress):
    return progress.step, progress.skipped, progress.loss_scale, progress.good_steps


def test_overflow_that_no_scale_mends_ends_the_run(run, monkeypatch):
    monkeypatch.setattr("jvan.engine.run.FIRST", 1.0)
    monkeypatch.setattr("jvan.classification.loss.soft_cross_entropy", lambda logits, targets: (logits * 1e9).sum())
    with pytest.raises(TrainingError, match=r"step 1: .* gradient not finite"):
        run("lost")
