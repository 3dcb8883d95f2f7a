"""All of jvan's kernels, in all types of maps and parameters, compiled by nvcc: none spills registers.

It needs NVIDIA's compiler, so it runs where JVAN_CUDA_WHEELS names a folder with the wheels.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tools.cuda_emulator.emulator import KERNELS as SOURCES
from tools.cuda_emulator.emulator import source_text

WHEELS = os.environ.get("JVAN_CUDA_WHEELS")
pytestmark = pytest.mark.skipif(not WHEELS, reason="JVAN_CUDA_WHEELS names no folder with NVIDIA's wheels of CUDA 13")
MAPS = ("f", "6__half", "13__nv_bfloat16")  # float32, float16 and bfloat16 in a mangled name
KERNELS = re.compile(r"__global__[^;{]*?(\w+_kernel)\(", re.S)

ARCHITECTURES = ("sm_75", "sm_80", "sm_90")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What ptxas says of every kernel, {architecture: {mangled name: (bytes of the stack, of spills stored, loaded)}}."""
    source = tmp_path_factory.mktemp("compiled") / "all.cu"
    source.write_text(source_text())
    with ThreadPoolExecutor() as pool:  # half a minute for each
        return dict(zip(ARCHITECTURES, pool.map(lambda architecture: compiled(source, architecture), ARCHITECTURES)))


def compiled(source, architecture):
    nvcc = pathlib.Path(WHEELS, "nvidia/cu13/bin/nvcc").resolve()
    command = [nvcc, "-cubin", f"-arch={architecture}", "-std=c++17", "--use_fast_math", "-Xptxas", "-v", source.name]
    command += ["-o", f"{architecture}.cubin"]
    done = subprocess.run(command, cwd=source.parent, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    found = re.findall(
        r"properties for (\S+)\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads",
        done.stderr,
    )
    return {name: tuple(map(int, numbers)) for name, *numbers in found}


@pytest.fixture(params=ARCHITECTURES)
def report(request, reports):
    return reports[request.param]


def test_every_kernel_is_compiled_for_each_type(report):
    kernels = {name for header in SOURCES.glob("*.cuh") for name in KERNELS.findall(header.read_text(encoding="utf-8"))}
    assert kernels >= {"depthwise_kernel", "depthwise_weights_kernel", "adamw_kernel", "unite_moments_kernel"}
    for kernel in kernels:
        ours = {name.partition(f"{len(kernel)}{kernel}")[2] for name in report if f"{len(kernel)}{kernel}" in name}
        assert ours, f"{kernel} has no instance"
        if kernel not in ("adamw_kernel", "add_partials_kernel"):  # of float32, whatever the maps are
            assert all(any(name.startswith(f"I{t}") for name in ours) for t in MAPS), (kernel, ours)


def test_no_kernel_spills_registers(report):
    assert {name: numbers for name, numbers in report.items() if any(numbers)} == {}
