"""`python -m jvan.gpu_check` without a GPU: its steps' logic, and that it goes on past a failure."""

import json
import os
import shutil
import tarfile

import numpy as np
import pytest

from jvan import gpu_check
from jvan.benchmarking.gpu_bandwidth import KERNELS
from jvan.benchmarking.gpu_steps import STEPS
from jvan.benchmarking.gpu_training import resumed
from jvan.ops.cuda.verify import CHECKS


@pytest.fixture
def out(emulator, tmp_path, monkeypatch):
    """A folder with the emulator's library in it; children find jvan."""
    shutil.copy(emulator.path, tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


def test_dry_run(out, capfd):
    """Every step, one after another, and what they found."""
    packed = out / "found.tar.gz"
    status = gpu_check.main(["--dry-run", "--limit", "900", "--out", str(out), "--pack", str(packed)])
    printed = capfd.readouterr().out
    assert status == 0, printed
    found = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    summary = found.pop("summary")
    assert list(summary["steps"]) == list(gpu_check.STEPS) == list(STEPS) and set(found) == set(STEPS)
    assert all(document["ok"] and document["dry_run"] for document in found.values())
    assert "goals: 0 met, 0 missed, 27 open" in printed, "an emulator's numbers are no GPU's"
    with tarfile.open(packed) as archive:
        assert {f"{step}.json" for step in (*STEPS, "summary")} < set(archive.getnames())
    for step, check in FOUND.items():
        check(found[step])


def check_kernels(found):
    assert {row["family"] for row in found["rows"]} == set(CHECKS) and found["worst"] <= 1


def check_parity(found):
    rows = found["results"]["tiny"]
    assert len(rows) == 7 and all(0 < row["error"] <= row["allowed"] for row in rows.values())


def check_training(found):
    assert found["runs"]["float16"]["same bits"] and found["runs"]["float16"]["resumed differs"] == 0


def check_accuracy(found):
    assert all(found["answers"][dtype]["of"] == 4 for dtype in ("cpu", "float32", "float16", "bfloat16"))


def check_bandwidth(found):
    assert [(row["kernel"], row["size"], row["dilation"]) for row in found["rows"]] == list(KERNELS)
    assert all(row["microseconds"] > 0 for row in found["rows"])


def check_speed(found):
    """On the CPU, where PyTorch may be missing."""
    for case in found["cases"]:
        ours, torch = case["engines"]
        assert ours["status"] == "ok" and ours["median_ms"] > 0 and torch["status"] in ("ok", "missing")


FOUND = {
    "jittor": lambda found: _all(found["errors"][name] < 5e-3 for name in ("permute", "product", "casts")),
    "kernels": check_kernels,
    "parity": check_parity,
    "training": check_training,
    "accuracy": check_accuracy,
    "learning": lambda found: _all(dtype in found["top1"] for dtype in ("float32", "float16", "bfloat16")),
    "bandwidth": check_bandwidth,
    **dict.fromkeys(("speed", "speed-training", "speed-compiled"), check_speed),
}


def _all(conditions):
    assert all(conditions)


@pytest.mark.parametrize(
    ("parts", "same", "differs"),
    [([4.0, 8.0], True, 0.0), ([4.0, 7.9], False, 0.02), ([1.0, 4.0], False, 1.0), ([np.nan, 8.0], False, np.inf)],
)
def test_a_resumed_run_is_judged_by_how_far_the_weights_moved(parts, same, differs):
    """From (1, 4) in the middle to (4, 8); running statistics do not weigh."""
    whole, half, parts = (
        {"weight": np.float32(values), "bn.running_var": np.float32([1e9 * same])}
        for values in ([4.0, 8.0], [1.0, 4.0], parts)
    )
    found = resumed(whole, half, parts)
    assert found["same bits"] is same and found["resumed differs"] == pytest.approx(differs, abs=1e-6)


def test_steps_without_their_data_are_left_out(tmp_path, capsys):
    assert gpu_check.main(["--out", str(tmp_path), "--steps", "accuracy", "learning"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[1:] == ["accuracy: left out: no --data", "learning: left out: no --data"]


def test_a_step_that_fails_does_not_end_the_run(out, capfd, monkeypatch):
    monkeypatch.setattr(gpu_check.subprocess, "run", fails_once(gpu_check.subprocess.run))
    assert gpu_check.main(["--dry-run", "--limit", "900", "--out", str(out), "--steps", "kernels", "environment"]) == 1
    printed = capfd.readouterr().out
    assert "kernels: stopped after 900 s" in printed and "environment: ok" in printed


@pytest.mark.parametrize(
    ("status", "found", "said"),
    [
        (0, '{"ok": true}', "ok"),
        (-6, '{"ok": true}', "ok, but its process ended with status -6"),
        (1, '{"ok": false}', "failed with status 1"),
        (-11, None, "failed with status -11"),
        (1, '{"ok": false, "left": ["a case", "another"]}', "not finished: 2 cases left"),
        (1, '{"ok": false, "left": []}', "failed with status 1"),
        (1, "{", "failed with status 1"),
        (None, '{"ok": true}', "stopped after 9 s"),
    ],
)
def test_a_step_is_judged_by_what_it_found(tmp_path, status, found, said):
    if found is not None:
        (tmp_path / "a.json").write_text(found)
    assert gpu_check._judged(status, tmp_path / "a.json", 9.0, tmp_path / "a.log").partition(";")[0] == said


def fails_once(run):
    def replaced(command, **options):
        if "kernels" in command:
            raise gpu_check.subprocess.TimeoutExpired(command, options["timeout"])
        return run(command, **options)

    return replaced
