"""`python -m jvan.gpu_check` without a GPU: its steps' logic, and that it goes on past a failure."""

import json
import os
import shutil

import pytest

from jvan import gpu_check


@pytest.fixture
def out(emulator, tmp_path, monkeypatch):
    """A folder with the emulator's library in it; children find jvan."""
    shutil.copy(emulator.path, tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


def test_dry_run(out, capfd):
    steps = ["kernels", "accuracy", "learning", "bandwidth"]
    status = gpu_check.main(["--dry-run", "--limit", "900", "--out", str(out), "--steps", *steps])
    printed = capfd.readouterr().out
    assert status == 0, printed
    assert [f"{step}: ok" in printed for step in steps] == [True] * 4
    found = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert {row["family"] for row in found["kernels"]["rows"]} >= {"depthwise", "batch_norm", "patches"}
    assert found["kernels"]["worst"] <= 1
    assert all(found["accuracy"]["answers"][dtype]["of"] == 4 for dtype in ("cpu", "float32", "float16", "bfloat16"))
    assert len(found["learning"]["top1"]) == 3
    assert {row["kernel"] for row in found["bandwidth"]["rows"]} == {"depthwise", "depthwise_weights"}


def test_steps_without_their_data_are_left_out(tmp_path, capsys):
    assert gpu_check.main(["--out", str(tmp_path), "--steps", "accuracy", "learning"]) == 0
    assert capsys.readouterr().out == "accuracy: left out: no --data\nlearning: left out: no --data\n"


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
