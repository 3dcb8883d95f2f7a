"""`jvan train`: what it writes and what it refuses; its options by themselves are in test_train_options.py."""

import contextlib
import csv
import fcntl
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jvan.checkpoints.state import load_state
from jvan.classification.task import ClassificationConfig
from jvan.engine.resume import read_state_file
from jvan.memory_limit import Limit
from jvan.predict import main as predict
from jvan.train import main
from tests.engine.drawn import OPTIONS, SMALLEST, draw_folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_folder(tmp_path_factory.mktemp("data") / "insects")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run of two epochs, and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    assert train(data, *OPTIONS, "--epochs", "2", "--log-every", "2", "--output", folder) == 0
    return folder


def train(*arguments):
    return main([*map(str, arguments), "--workers", "0"])


def refused(capsys, *arguments, status=1):
    """The one line that a refused run prints."""
    capsys.readouterr()
    assert train(*arguments) == status
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1 and "Traceback" not in lines[0], lines
    return lines[0]


def test_pictures_too_large_for_this_machine_are_refused_before_anything_is_written(
    data, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("jvan.memory_limit.available_memory", lambda: Limit(5 * 10**8, "the test"))
    options = ("--arch", SMALLEST, "--batch-size", "8", "--output", tmp_path / "run")
    line = refused(capsys, data, "--img-size", "512", *options)
    # 8 pictures of 512² with 3 channels; 8 + 2 maps of 8 channels a block, at sides 512, 256, 128 and 64, of 4 bytes
    needed = 8 * 4 * (3 * 512**2 + (8 + 2) * 8 * (512**2 + 256**2 + 128**2 + 64**2))
    assert f"a step on 8 pictures of 512×512 pixels needs {needed / 1e9:.2f} GB of memory" in line
    assert "this process may have 0.50 GB more (the test); choose a smaller --img-size or --batch-size" in line
    assert not (tmp_path / "run").exists()


def test_what_a_run_leaves(trained, data, capsys):
    assert {"config.json", "last.safetensors", "best.safetensors", "log.csv", "validation.csv", "state"} <= set(
        os.listdir(trained)
    )
    with open(trained / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [2, 4, 6]
    assert {"step", "epoch", "lr", "loss"} <= rows[0].keys() and all(np.isfinite(float(row["loss"])) for row in rows)
    state = load_state(trained / "best.safetensors")
    assert state.metadata.labels == ("ant", "bee", "cat") and state.metadata.preprocessing.size == 32
    assert ClassificationConfig.from_json((trained / "config.json").read_text()).batch_size == 12
    assert predict([str(data / "bee" / "003.png"), "--weights", str(trained / "best.safetensors"), "--json"]) == 0
    (picture,) = json.loads(capsys.readouterr().out)
    assert {p["label"] for p in picture["predictions"]} == {"ant", "bee", "cat"}


def test_a_finished_run_resumes_to_nothing(trained, data, capsys):
    before = (trained / "log.csv").read_bytes(), (trained / "last.safetensors").read_bytes()
    assert train(data, *OPTIONS, "--epochs", "2", "--log-every", "2", "--output", trained, "--resume") == 0
    assert before == ((trained / "log.csv").read_bytes(), (trained / "last.safetensors").read_bytes())


def validated(top1):
    return SimpleNamespace(figures={"top1": top1, "top5": 1.0, "loss": 1.0}, describe=lambda: "6 pictures")


def test_the_last_state_and_the_best_are_kept(data, tmp_path, monkeypatch):
    """Four validations, of which the second is to be the best on every machine."""
    results = iter(validated(top1) for top1 in (0.2, 0.6, 0.4, 0.6))
    monkeypatch.setattr("jvan.classification.evaluate.evaluate", lambda *_: next(results))
    assert train(data, *OPTIONS, "--epochs", "4", "--keep", "1", "--output", tmp_path) == 0
    best, last = (tmp_path / "state" / f"step-{step:09d}.safetensors" for step in (6, 12))
    assert set((tmp_path / "state").iterdir()) == {best, last}
    for name, path in (("best", best), ("last", last)):
        weights, state = load_state(tmp_path / f"{name}.safetensors").tensors, read_state_file(path).tensors
        assert all((array == state[f"ema.{key}"]).all() for key, array in weights.items())


def test_an_output_in_use_is_refused(trained, data, capsys):
    assert "--resume" in refused(capsys, data, *OPTIONS, "--epochs", "2", "--output", trained)
    line = refused(capsys, data, *OPTIONS, "--epochs", "2", "--output", trained, "--resume", "--lr", "0.5")
    assert "lr: None, not 0.5" in line


def test_other_pictures_are_refused(trained, tmp_path, capsys):
    other = draw_folder(tmp_path / "other", each=17)
    assert "other pictures" in refused(capsys, other, *OPTIONS, "--epochs", "2", "--output", trained, "--resume")


def test_bad_data_are_one_line(data, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert str(empty) in refused(capsys, empty, *OPTIONS, "--output", tmp_path / "o")
    gap = draw_folder(tmp_path / "gap")
    (gap / "dog").mkdir()
    assert "dog" in refused(capsys, gap, *OPTIONS, "--output", tmp_path / "o")
    assert "no-such" in refused(capsys, tmp_path / "no-such", *OPTIONS, "--output", tmp_path / "o")
    assert "fewer than a batch of 64" in refused(
        capsys, data, *OPTIONS, "--batch-size", "64", "--output", tmp_path / "o"
    )
    assert "divide" in refused(capsys, data, *OPTIONS, "--accum-steps", "5", "--output", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_weights_that_do_not_fit_are_one_line(trained, data, tmp_path, capsys):
    weights = trained / "best.safetensors"
    output = ("--output", tmp_path / "o", "--img-size", "32", "--batch-size", "12")
    assert "custom" in refused(capsys, data, "--weights", weights, "--arch", "van_b1", *output)
    wider = SMALLEST.replace("8,8,8,8", "16,8,8,8")
    assert "--arch" in refused(capsys, data, "--weights", weights, "--arch", wider, *output)
    other = draw_folder(tmp_path / "other", classes=("ant", "bee", "dog"))
    line = refused(capsys, other, "--weights", weights, *output)
    assert "'cat'" in line and "'dog'" in line and "--drop-head" in line
    assert not (tmp_path / "o").exists()


def test_what_it_validates_on_is_said(data, tmp_path, capsys):
    assert train(data, *OPTIONS, "--epochs", "1", "--max-steps", "1", "--seed", "7", "--output", tmp_path) == 0
    assert "validation on a tenth of each class, 6 of 48 pictures, chosen with seed 7" in capsys.readouterr().err


def test_a_bar_on_a_terminal(data, tmp_path):
    """And lines where there is none, as in every other test."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))  # a new one has no columns
    command = [
        sys.executable,
        "-m",
        "jvan.train",
        data,
        *OPTIONS,
        "--epochs",
        "1",
        "--workers",
        "0",
        "--output",
        tmp_path,
    ]
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(list(map(str, command)), stderr=terminal, stdout=terminal, env=environment) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's end of file
            while piece := os.read(reader, 4096):
                shown += piece
    os.close(reader)
    assert process.returncode == 0, shown
    assert b"/3 [" in shown and b"pictures/s" in shown and b"step 3/3, epoch" not in shown


def test_an_impossible_output_is_one_line(data, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("here")
    assert str(file) in refused(capsys, data, *OPTIONS, "--output", file)
    assert "/proc" in refused(capsys, data, *OPTIONS, "--output", "/proc/o")  # which even root cannot write


def test_an_output_that_is_not_writable_is_one_line(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, *_, **__: tmp_path not in Path(path).parents)  # a mode stops no root
    assert "is not writable; choose another --output" in refused(capsys, data, *OPTIONS, "--output", tmp_path / "o")
    assert not list((tmp_path / "o").rglob("*.safetensors"))


def test_an_output_that_would_lose_something_is_one_line(data, tmp_path, capsys):
    line = refused(capsys, data, *OPTIONS, "--output", data / "runs")
    assert "lies among the pictures" in line and not (data / "runs").exists()
    best = tmp_path / "best.safetensors"
    best.write_text("somebody's")
    assert "without the state" in refused(capsys, data, *OPTIONS, "--output", tmp_path)
    assert best.read_text() == "somebody's"
    best.unlink()
    for name in ("config.json", "log.csv", "validation.csv"):
        for content in ("somebody's", '{"somebody": 1}', "[1]", "\udcff"):
            (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
            line = refused(capsys, data, *OPTIONS, "--output", tmp_path)
            assert f"{name}: is there already and not from a run" in line
            assert (tmp_path / name).read_bytes() == content.encode("utf-8", "surrogateescape")
        (tmp_path / name).unlink()


def test_what_the_network_cannot_learn_from_is_one_line(data, tmp_path, capsys):
    output = ("--output", tmp_path / "o")
    assert "3 channels" in refused(capsys, data, "--arch", f"{SMALLEST}:in_chans=1", *OPTIONS[2:], *output)
    line = refused(
        capsys, data, "--arch", "van_b0", "--img-size", "32", "--batch-size", "2", "--accum-steps", "2", *output
    )
    assert "BatchNorm" in line and not (tmp_path / "o").exists()


def test_a_state_of_another_version_is_one_line(trained, data, tmp_path, monkeypatch, capsys):
    from jvan.classification.task import ClassificationConfig

    def newer(text):
        raise ValueError("unknown entries: new_option")

    monkeypatch.setattr(ClassificationConfig, "from_json", newer)
    line = refused(capsys, data, *OPTIONS, "--epochs", "2", "--output", trained, "--resume")
    assert "another version of jvan" in line and "new_option" in line


def test_a_large_seed(data, tmp_path):
    assert train(data, *OPTIONS, "--seed", "5000000000", "--max-steps", "1", "--epochs", "1", "--output", tmp_path) == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_precision_that_is_not_built_for_the_cpu_needs_a_gpu(data, tmp_path, capsys, dtype):
    assert "needs a GPU" in refused(
        capsys, data, *OPTIONS, "--device", "cpu", "--dtype", dtype, "--output", tmp_path / "o"
    )


@pytest.mark.parametrize(
    "arch",
    ["van_b9", "van_b0:depth=3", "van_b0:depths=1,2", "van_b0:stem_stride", "van_b0:gate=x", "van_b0:num_classes=7"],
)
def test_an_unknown_architecture_is_one_line(data, tmp_path, capsys, arch):
    assert arch in refused(capsys, data, "--arch", arch, "--batch-size", "8", "--output", tmp_path / "o")


def test_fine_tuning_with_and_without_a_new_head(trained, data, tmp_path, capsys):
    options = (
        "--weights",
        trained / "best.safetensors",
        "--batch-size",
        "12",
        "--max-steps",
        "1",
        "--epochs",
        "3",
        "--lr",
        "0",
    )
    assert train(data, *options, "--output", tmp_path / "same") == 0
    assert "with their head" in capsys.readouterr().err
    two = draw_folder(tmp_path / "two", classes=("ant", "wasp"))
    assert train(two, *options, "--output", tmp_path / "two-run") == 0
    assert "a new head for 2 classes instead of theirs for 3" in capsys.readouterr().err
    before, same, new = (
        load_state(path / "last.safetensors") for path in (trained, tmp_path / "same", tmp_path / "two-run")
    )
    assert (before.tensors["head.weight"] == same.tensors["head.weight"]).all()
    assert new.tensors["head.weight"].shape == (2, 8) and new.metadata.labels == ("ant", "wasp")
    name = "block2.0.attn.proj_1.weight"
    assert (before.tensors[name] == new.tensors[name]).all()


def test_what_a_user_should_know_of_the_weights_is_told_once(data, tmp_path, capsys):
    weights = Path(__file__).parent / "golden" / "official_tiny_ema.pth.tar"
    options = ("--weights", weights, "--batch-size", "12", "--max-steps", "1", "--img-size", "32")
    assert train(data, *options, "--output", tmp_path / "run") == 0
    assert capsys.readouterr().err.count(f"jvan train: {weights}: averaged weights lie in the file, too") == 1


def test_a_run_goes_on_with_its_weights_at_another_place_and_with_no_others(trained, data, tmp_path, capsys):
    options = ("--batch-size", "12", "--max-steps", "1", "--epochs", "3", "--output", tmp_path / "run", "--resume")
    assert train(data, "--weights", trained / "best.safetensors", *options) == 0
    moved = shutil.copy(trained / "best.safetensors", tmp_path / "moved.safetensors")
    assert train(data, "--weights", moved, *options) == 0
    capsys.readouterr()
    other = tmp_path / "run" / "last.safetensors"
    assert "weights_digest: " in refused(capsys, data, "--weights", other, *options)


def test_a_loss_that_is_not_finite_stops_and_names_its_pictures(data, tmp_path, capsys):
    options = (
        *OPTIONS,
        "--epochs",
        "8",
        "--warmup-epochs",
        "0",
        "--lr",
        "1e30",
        "--checkpoint-every",
        "1000",
        "--output",
        tmp_path,
    )
    capsys.readouterr()
    assert train(data, *options) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "not finite" in line and ".png" in line and "step " in line
    step = int(line.split("step ")[1].split(":")[0])
    assert step % 3 != 1, "else an epoch's end has saved it, whatever the failure does"
    state = read_state_file(tmp_path / "state" / f"step-{step - 1:09d}.safetensors")
    assert all(np.isfinite(array).all() for array in state.tensors.values())
    pictures = (tmp_path / "not-finite.txt").read_text().splitlines()
    assert len(set(pictures)) == 12 and all(name.endswith(".png") for name in pictures)
    assert "and 4 more" in line and all((name in line) == (index < 8) for index, name in enumerate(pictures))


def test_curves(capsys, data, tmp_path):
    pytest.importorskip("matplotlib")
    assert train(data, *OPTIONS, "--epochs", "1", "--plot", "--output", tmp_path) == 0
    assert f"curves: {tmp_path / 'curves.png'}" in capsys.readouterr().err
    with Image.open(tmp_path / "curves.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 50


def test_curves_without_matplotlib_are_refused_at_once(monkeypatch, capsys, data, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert "matplotlib" in refused(capsys, data, *OPTIONS, "--plot", "--output", tmp_path / "o")


def test_a_damaged_picture_is_named_and_replaced(tmp_path, capsys):
    folder = draw_folder(tmp_path / "d")
    (folder / "ant" / "002.png").write_bytes(b"no picture")
    val = draw_folder(tmp_path / "v", each=2)
    assert train(folder, *OPTIONS, "--val", val, "--epochs", "1", "--output", tmp_path / "o") == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "002.png" in line]
    assert "another of its class takes its place" in line and "unreadable so far: 1" in line
