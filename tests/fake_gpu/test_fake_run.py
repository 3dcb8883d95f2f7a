"""Jittor built with CUDA 13 from NVIDIA's wheels, and driven on a runtime without a GPU: what compiles, links, loads and launches.

It takes minutes and a gigabyte of wheels, so it runs where JVAN_CUDA_WHEELS names a folder with them.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from jvan.ops.cuda.operators import OPERATORS
from tools.gpu_check.timed import ROUNDS

from .fake.build import build

ROOT = pathlib.Path(__file__).resolve().parents[2]
WHEELS = os.environ.get("JVAN_CUDA_WHEELS")
pytestmark = pytest.mark.skipif(not WHEELS, reason="JVAN_CUDA_WHEELS names no folder with NVIDIA's wheels of CUDA 13")


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """The surroundings of a machine with a GPU, a driver for CUDA 13.0, and nvcc on PATH."""
    folder = tmp_path_factory.mktemp("machine") / "site"
    yield _machine(folder)
    shutil.rmtree(folder.parent)  # half a gigabyte, which pytest would keep


def _machine(folder):
    build(WHEELS, str(folder))
    home = folder.parent / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in ("nvcc_path", "CUDA_HOME", "CUDA_PATH")}
    path = f"{folder}/nvidia/cu13/bin{os.pathsep}{os.environ['PATH']}"
    return {
        **kept, "HOME": str(home), "PATH": path, "LD_LIBRARY_PATH": str(folder / "driver"), "log_silent": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, folder))),
        "use_mkl": "0", "use_mpi": "0", "cc_flags": "-O0",  # half the compilation, and nothing of CUDA in it
    }  # fmt: skip


def run(machine, *arguments, **more):
    command = [sys.executable, *arguments]
    return subprocess.run(command, env={**machine, **more}, capture_output=True, text=True, timeout=3000, cwd=ROOT)


@pytest.fixture(scope="module")
def seen(machine):
    """What drive.py saw, and what was said on standard error."""
    result = run(machine, "-m", "tests.fake_gpu.drive")
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-6000:]
    return {**json.loads(result.stdout.splitlines()[-1]), "said": result.stderr}


def test_jittor_starts_with_the_assembled_home(machine, seen):
    variables = seen["variables"]
    made = pathlib.Path(variables["nvcc_path"]).parents[1]
    assert seen["has_cuda"] and made.parent == pathlib.Path(machine["HOME"], ".cache/jittor/jvan")
    assert variables == {
        "nvcc_path": f"{made}/bin/nvcc", "conv_opt": "1", "use_cutt": "1", "cutt_lib_path": f"{made}/cutt/lib",
        "use_cutlass": "0", "use_nccl": "0",
    }  # fmt: skip
    assert "-arch=compute_90" in seen["flags"] and "jvan: preparing CUDA 13.0" in seen["said"]


def test_kernels_are_compiled_and_launched(seen):
    assert seen["launches"]["code"] == seen["launches"]["transposition"] == 1, "and no transposition goes by the CPU"
    assert all(seen["launches"][name] >= 1 for name in ("where", "softmax"))
    assert set(seen["launches"]) >= {"product", "random"}, "cuBLAS's and cuRAND's own, which the fake ones do not count"


def test_jvans_kernels_are_compiled_and_launched(seen):
    """Every header's, and all that a block in training calls; forward, and for the gradients."""
    kernels = seen["kernels"]
    called = {name for case in kernels.values() for name in case["operators"]}
    headers = {OPERATORS[name].header for name in called}
    assert headers == {operator.header for operator in OPERATORS.values()}
    assert set(kernels["block"]["operators"]) >= {
        "batch_statistics", "batch_norm", "bias", "depthwise", "bias_gate", "residual", "depthwise_gelu",
        "residual_backward", "depthwise_gelu_weights", "gelu_backward", "bias_gate_backward", "depthwise_weights",
        "bias_gelu_backward", "bias_backward", "batch_norm_backward",
    }  # fmt: skip
    # A block's passes, and the checks' before them, whose numbers nobody asks for here.
    assert all(case["launches"] >= len(case["operators"]) for case in kernels.values()), kernels
    assert kernels["timed"]["launches"] == ROUNDS * (3 + 5)
    assert kernels["bfloat16-float32"]["operators"] == kernels["float16-float16"]["operators"] == ["bias"]
    assert kernels["block in bfloat16"]["operators"] == kernels["block"]["operators"]
    assert kernels["inference in float16"]["operators"] == [
        "bias", "bias_gate", "depthwise", "depthwise_gelu", "gather_patches", "layer_norm", "shortcut",
    ]  # fmt: skip
    assert seen["driver copies"]


def test_gpu_that_computes_nothing_is_not_used(seen):
    """As kernels do not run here, every number is wrong, and that must be noticed."""
    assert seen["auto"] == "cpu" and "the GPU computes wrong numbers" in seen["refused"]
    assert seen["said"].count("computing on the CPU") == 1


def test_commands_say_so_in_one_line(machine, seen):
    picture = str(ROOT / "examples" / "cat.jpg")
    result = run(machine, "-m", "jvan.predict", "--device", "cuda", picture)
    assert result.returncode == 1, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("jvan predict: the GPU computes wrong numbers") and "--device cpu" in line


LOOK = """
from jvan.boot import cuda as boot_cuda
from jvan.boot.toolkit import locate
locate.USUAL = ()
print(boot_cuda.check_gpus().what)
print(boot_cuda.check_cuda(assembled=True).what)
"""


@pytest.mark.parametrize(
    ("takes", "archs", "gpus", "cuda"),
    [
        ("13000", "90", "fake GPU 0 (sm_90); the driver takes CUDA 13.0", "as {home}/.cache/jittor/jvan/cuda-13.0-"),
        ("12040", "90", "takes CUDA 12.4", "needs a newer driver: this one takes CUDA 12.4"),
        ("13000", "", "no GPU that it shows", "a driver, but no GPU"),
    ],
)
def test_doctors_lines(machine, seen, takes, archs, gpus, cuda):
    result = run(machine, "-c", LOOK, FAKE_CUDA=takes, FAKE_ARCHS=archs)
    lines = result.stdout.splitlines()
    assert gpus in lines[0] and cuda.format(home=machine["HOME"]) in lines[1], result.stderr
