"""The first step of `python -m tools.gpu_check`: why the GPU is not used is recorded, and said again by the steps after it."""

import json
import sys
from types import SimpleNamespace

import jittor as jt
import pytest

from jvan import children, device
from jvan.boot.settings import MENDED, OK, Finding
from tools.gpu_check import environment as gpu_environment
from tools.gpu_check import gpu_check
from tools.gpu_check.task import Task


@pytest.fixture
def machine(monkeypatch):
    """A function: what the trial finds, whether Jittor has CUDA -> what the step finds of a machine without a driver."""
    cuda = Finding("CUDA", MENDED, "a compiler, but no driver: switched off", "install a driver")
    monkeypatch.setattr(gpu_environment, "check_cuda", lambda assembled: cuda)
    monkeypatch.setattr(gpu_environment, "check_gpus", lambda: Finding("GPU", OK, "no NVIDIA driver"))

    def found(fault, has_cuda):
        monkeypatch.setattr(device, "cuda_fault", lambda: fault)
        monkeypatch.setattr(jt, "has_cuda", has_cuda)
        return gpu_environment.environment(Task(False))

    return found


def test_why_there_is_no_gpu(machine, capsys):
    found = machine("Jittor sees no CUDA device here", 0)
    assert found["ok"] is False and set(found["findings"]) == {"CUDA", "GPU", "headers", "compiler", "oneDNN"}
    assert found["reason"] == (
        "Jittor sees no CUDA device here; CUDA: mended: a compiler, but no driver: switched off; install a driver; GPU: no NVIDIA driver"
    )
    printed = capsys.readouterr().out
    assert f"reason: {found['reason']}\n" in printed and "GPU: no NVIDIA driver\n" in printed
    assert "g++ version: " in printed and found["g++ version"]


def test_a_gpu_that_is_there_must_compute_right_numbers(machine):
    found = machine("the GPU computes wrong numbers (a sum)", 1)
    assert found["ok"] is False and found["reason"] == "the GPU computes wrong numbers (a sum)"
    found = machine("", 1)
    assert found["ok"] is True and found["reason"] == ""


def test_what_is_known_before_jittor_is_kept_if_it_does_not_start(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "before_jittor", lambda: {"ok": False, "reason": "Jittor does not start"})
    monkeypatch.setitem(sys.modules, "tools.gpu_check.steps", None)
    with pytest.raises(ImportError):
        gpu_check._run_step("environment", SimpleNamespace(limit=9.0, out=tmp_path, dry_run=False))
    assert json.loads((tmp_path / "environment.json").read_text())["reason"] == "Jittor does not start"


def test_later_steps_say_the_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(children, "run_python", lambda *command, **options: children.CompletedProcess(command, 1))
    (tmp_path / "environment.json").write_text('{"ok": false, "reason": "no driver"}')
    assert gpu_check.main(["--out", str(tmp_path), "--steps", "kernels", "parity"]) == 1
    for line, step in zip(capsys.readouterr().out.splitlines()[-2:], ("kernels", "parity")):
        assert line.startswith(f"{step}: failed with status 1; see ") and line.endswith("; no GPU: no driver")
