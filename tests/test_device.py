"""The choice of a device: a GPU that fails or computes wrong numbers is not used, and that is said; with a stand-in for Jittor."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from jvan import device
from jvan.errors import JvanError


class Array(np.ndarray):
    """As much of a jt.Var as the test operators use, computed by numpy."""

    def permute(self, *axes):
        return self.transpose(*axes)

    def numpy(self):
        return np.asarray(self)


def jittor(monkeypatch, has_cuda=1, **functions):
    functions = {"array": lambda values: values.view(Array), "matmul": np.matmul, **functions}
    stand_in = types.SimpleNamespace(has_cuda=has_cuda, flags=types.SimpleNamespace(use_cuda=0), **functions)
    monkeypatch.setitem(sys.modules, "jittor", stand_in)
    device.cuda_fault.cache_clear()
    return stand_in.flags


@pytest.fixture(autouse=True)
def ask_again():
    yield
    device.cuda_fault.cache_clear()


def fails(*_):
    raise RuntimeError("[f 1122]\n Wrong inputs.\nReason: CUDA error no kernel image is available")


def test_gpu_that_computes_right_is_used(monkeypatch, capsys):
    flags = jittor(monkeypatch)
    assert device.use_device("auto") == device.use_device("cuda") == "cuda" and flags.use_cuda == 1
    assert device.use_device("cpu") == "cpu" and flags.use_cuda == 0
    device.use_cuda()
    assert flags.use_cuda == 1 and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("functions", "reason"),
    [
        ({"matmul": lambda a, b: np.matmul(a, b) + 1}, "wrong numbers (a matrix product)"),
        ({"array": lambda values: np.zeros_like(values).view(Array)}, "(a sum, a matrix product, a transposition)"),
        ({"array": fails}, "no kernel image is available"),
    ],
    ids=["wrong product", "kernels that do nothing", "an error"],
)
def test_gpu_that_computes_wrong_is_not_used(monkeypatch, capsys, functions, reason):
    flags = jittor(monkeypatch, **functions)
    assert device.use_device("auto") == "cpu" and flags.use_cuda == 0
    line = capsys.readouterr().err
    assert line.startswith("jvan: the GPU ") and reason in line and line.count("\n") == 1
    for refuse in (lambda: device.use_device("cuda"), device.use_cuda):
        with pytest.raises(JvanError) as error:
            refuse()
        assert reason in str(error.value) and "--device cpu" in str(error.value) and "\n" not in str(error.value)
    assert flags.use_cuda == 0


def test_without_gpu_the_cpu_is_used_without_a_word(monkeypatch, capsys):
    flags = jittor(monkeypatch, has_cuda=0, array=fails)
    assert device.use_device() == "cpu" and flags.use_cuda == 0 and capsys.readouterr().err == ""
    with pytest.raises(JvanError, match="no CUDA device"):
        device.use_cuda()


def test_operators_are_tried_once(monkeypatch):
    calls = []
    jittor(monkeypatch, matmul=lambda a, b: calls.append(1) or np.matmul(a, b))
    for _ in range(3):
        device.use_device("auto")
    assert len(calls) == 1
    flags = jittor(monkeypatch)
    assert device.cuda_fault() == "" and flags.use_cuda == 0, "the trial leaves the device as it was"


def test_unknown_device_is_refused():
    with pytest.raises(ValueError, match="auto, cpu, cuda"):
        device.use_device("gpu")
