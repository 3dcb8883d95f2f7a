"""Which CUDA is taken, left alone, adapted or switched off, and what is said of it; toolkits of empty files, drivers of a line."""

# ruff: noqa: SIM112  (Jittor's variables are lower case)

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

from jvan.boot import cuda as boot_cuda
from jvan.boot.settings import BROKEN, MENDED, OK, SLOW
from jvan.boot.toolkit import locate, parts

from .machines import ROOT, bare_path, fake_cudnn, fake_toolkit, fill_cuda, write


def put_on_path(*compilers):
    os.environ["PATH"] = os.pathsep.join(str(nvcc.parent) for nvcc in compilers)


def look():
    return boot_cuda.check_cuda(assembled=True)


def calls(toolkit):
    """What was compiled with this toolkit."""
    return (toolkit / "calls").read_text().splitlines() if (toolkit / "calls").exists() else []


def switched_off(finding):
    return finding.status == MENDED and os.environ["nvcc_path"] == "" and "CPU only" in finding.what


def test_nothing_there_changes_nothing(home):
    assert boot_cuda.check_cuda().status == look().status == OK
    assert not any(name in os.environ for name in ("nvcc_path", "use_cutt", "conv_opt"))


def test_compiler_without_driver_is_switched_off_at_once(home):
    put_on_path(fake_toolkit(home / "cuda"))
    assert switched_off(boot_cuda.check_cuda()) and switched_off(look())


def test_before_the_import_no_compiler_is_called(home, gpu):
    nvcc = write(home / "cuda" / "bin" / "nvcc", f"#!/bin/sh\n: >{home}/called\n", 0o755)
    put_on_path(nvcc)
    assert boot_cuda.check_cuda().status == OK and "nvcc_path" not in os.environ
    assert not (home / "called").exists()
    assert switched_off(look()) and (home / "called").exists(), "an nvcc that says nothing is none"


def test_toolkit_that_suits_is_left_alone(home, gpu):
    nvcc = fake_toolkit(home / "cuda")
    put_on_path(nvcc)
    finding = look()
    assert finding.status == OK and finding.what == f"CUDA 12.4 at {home}/cuda as it is"
    assert os.environ["nvcc_path"] == str(nvcc) and "conv_opt" not in os.environ
    assert [os.environ[name] for name in ("use_cutt", "use_cutlass", "use_nccl")] == ["1", "0", "0"], "no download"
    library = pathlib.Path(os.environ["cutt_lib_path"], "libcutt.so")
    assert library.exists() and sorted(path.name for path in library.parents[2].iterdir()) == ["cutt", "jvan-cuda.json"]


@pytest.mark.parametrize("gone", [(), ("cufft.h",), ("libcusparse",)])
def test_without_cudnn_jittor_is_told(home, gpu, gone):
    put_on_path(fake_toolkit(home / "cuda", lacks=gone, cudnn=8 if gone else 0))
    finding = look()
    assert os.environ["conv_opt"] == "1"
    assert f"without {'cuDNN' if not gone else 'cuFFT' if 'cufft.h' in gone else 'cuSPARSE'}" in finding.what


def test_new_cuda_is_adapted(home, gpu):
    nvcc = fake_toolkit(home / "cuda", "13.0", ("npp.h",), cudnn=9)
    put_on_path(nvcc)
    finding = look()
    made = pathlib.Path(os.environ["nvcc_path"]).parents[1]
    assert finding.status == MENDED and str(made) in finding.what and "conv_opt" not in os.environ
    for reason in ("cudaDeviceProp has changed", "npp.h is missing", "CUB 3", "cuDNN 9"):
        assert reason in finding.what
    assert made.parent == home / ".cache" / "jittor" / "jvan" and made.name.startswith("cuda-13.0-")
    fields = (made / "include" / "driver_types.h").read_text()
    assert "static const int computeMode = 0, clockRate = 1;" in fields and "int major;" in fields
    for name in ("npp.h", "cub/cub.cuh", "cudnn.h"):
        assert not (made / "include" / name).is_symlink() and (made / "include" / name).stat().st_size > 100
    assert (made / "include" / "cudnn_as_it_is.h").read_text() == "// NVIDIA's\n", "what jvan's includes"
    assert "clockRate" not in (home / "cuda" / "include" / "driver_types.h").read_text(), "NVIDIA's own stays"
    for name in ("libcudart.so", "libcublas.so", "libcudnn_ops_infer.so", "libcudnn_cnn_train.so"):
        assert (made / "lib64" / name).exists()


def test_rest_of_a_toolkit_comes_from_wheels(home, gpu, monkeypatch):
    """As on a machine with nvcc and torch: what torch brings fits CUDA 13, and lies beside leftovers of CUDA 12."""
    nvcc = fake_toolkit(home / "cuda", "13.0", ("libcublas", "libcublasLt", "libcufft"), cudnn=0)
    site = home / "site"
    fill_cuda(site / "nvidia" / "cu13", "lib", "13.0")
    fake_cudnn(site / "nvidia" / "cudnn", "lib", 9)
    write(site / "nvidia_cudnn_cu13-9.19.dist-info" / "METADATA")
    write(site / "nvidia" / "cufft" / "lib" / "libcufft.so.11", "CUDA 12's")
    write(site / "nvidia_cufft_cu12-11.4.dist-info" / "METADATA")
    monkeypatch.setattr(sys, "path", [str(site)])
    put_on_path(nvcc)
    assert look().status == MENDED
    lib = pathlib.Path(os.environ["nvcc_path"]).parents[1] / "lib64"
    assert (lib / "libcublas.so").resolve() == site / "nvidia" / "cu13" / "lib" / "libcublas.so.1"
    assert (lib / "libcurand.so").resolve() == home / "cuda" / "lib64" / "libcurand.so.1", "the toolkit's own first"
    assert (lib / "libcufft.so").read_text() == "" and not (lib / "libcufft.so.11").exists()
    assert "conv_opt" not in os.environ


def test_wheels_alone_are_a_toolkit(home, gpu, monkeypatch):
    wheel = home / "site" / "nvidia" / "cu13"
    fake_toolkit(wheel, "13.0", cudnn=0)
    (wheel / "lib64").rename(wheel / "lib")
    monkeypatch.setattr(sys, "path", [str(home / "site")])
    finding = look()
    assert finding.status == MENDED and str(wheel) in finding.what and os.environ["conv_opt"] == "1"


def test_wrapper_script_leads_to_the_real_one(home, gpu):
    real = fake_toolkit(home / "cuda")
    put_on_path(write(home / "wrapper" / "nvcc", f'#!/bin/sh\nexec {real} "$@"\n', 0o755))
    assert look().status == OK and os.environ["nvcc_path"] == str(real)


@pytest.mark.parametrize(
    ("takes", "versions", "taken"),
    [
        ((13, 0), ("11.8", "12.4", "13.0"), "13.0"),
        ((12, 6), ("11.8", "12.4", "13.0"), "12.4"),
        ((12, 2), ("12.1", "12.8"), "12.1"),  # the driver may run 12.8's programs, and surely runs 12.1's
        ((12, 2), ("11.8", "12.8"), "11.8"),
        ((12, 2), ("12.8", "13.0"), "12.8"),
        ((13, 1), ("13.1", "13.0"), "13.1"),
    ],
)
def test_newest_that_the_driver_takes(home, gpu, takes, versions, taken):
    gpu(takes, 90)
    put_on_path(fake_toolkit(home / "cuda-first", versions[0]))
    for version in versions[1:]:
        fake_toolkit(home / f"cuda-{version}", version)
    locate.USUAL = (str(home / "cuda-*" / "bin" / "nvcc"),)
    finding = look()
    assert finding.what.startswith(f"CUDA {taken} at ") and "nvcc_path overrides" in finding.what
    assert all(f"CUDA {version}" in finding.what for version in versions), "and says which were not"


@pytest.mark.parametrize(
    ("version", "lacks", "machine", "what", "fix"),
    [
        ("13.0", (), ((12, 8), 90), "needs a newer driver: this one takes CUDA 12.8", "a driver for CUDA 13"),
        ("13.0", (), ((13, 0), 70), "does not compile for sm_70", "CUDA 12"),
        (
            "13.0",
            ("libcublas", "cccl"),
            ((13, 0), 90),
            "lacks cuBLAS, CUB",
            "pip install nvidia-cublas 'nvidia-cuda-cccl==13.0.*'",
        ),
        ("12.4", ("curand.h",), ((12, 8), 90), "lacks cuRAND", "the whole toolkit"),
        ("12.4", (), ((12, 8),), "a driver, but no GPU (CUDA_VISIBLE_DEVICES is '')", ""),
    ],
)
def test_what_cannot_work_is_switched_off_in_one_line(home, gpu, version, lacks, machine, what, fix):
    gpu(*machine)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    put_on_path(fake_toolkit(home / "cuda", version, lacks))
    finding = look()
    assert switched_off(finding) and what in finding.what and fix in finding.fix
    assert not list(home.glob(".cache/jittor/jvan/cuda*"))


def test_a_toolkit_whose_name_a_shell_would_run_is_passed_over(home, gpu):
    found = [
        locate.Toolkit(str(fake_toolkit(home / name)), str(home / name), (12, 4))
        for name in ("cu$(reboot)da", "a b;c'd&e")
    ]
    best, faults = boot_cuda.best(found, (12, 8), [90])
    assert best == found[1] and "a shell would not take literally" in faults[0][0]


def test_whole_toolkit_behind_a_broken_one_is_taken(home, gpu):
    put_on_path(fake_toolkit(home / "compiler-only", "12.8", ("libcudart", "libcublas")), fake_toolkit(home / "cuda"))
    locate.USUAL = (str(home / "cuda" / "bin" / "nvcc"),)
    assert look().status == OK and os.environ["nvcc_path"] == str(home / "cuda" / "bin" / "nvcc")


def test_compiler_that_fails_is_switched_off_and_leaves_nothing(home, gpu):
    nvcc = fake_toolkit(home / "cuda", "13.0")
    broken = nvcc.read_text().replace("*)\n", "*)\n    echo 'x.h(1): error: unsupported GNU version'; exit 1\n")
    write(nvcc, broken, 0o755)
    put_on_path(nvcc)
    finding = look()
    assert switched_off(finding) and "error: unsupported GNU version" in finding.what
    assert [path.name for path in (home / ".cache/jittor/jvan").iterdir() if not path.name.endswith(".lock")] == []


def test_home_is_made_once_and_anew_when_its_parts_change(home, gpu):
    nvcc = fake_toolkit(home / "cuda", "13.0")
    put_on_path(nvcc)
    look()
    first = os.environ["nvcc_path"]
    look()
    assert os.environ["nvcc_path"] == first and len(calls(home / "cuda")) == 1
    write(home / "cuda" / "lib64" / "libcublas.so.1", "an update")
    look()
    second = os.environ["nvcc_path"]
    assert second != first and len(calls(home / "cuda")) == 2
    gpu((13, 0), 80, 90)
    look()
    assert os.environ["nvcc_path"] not in (first, second)
    assert all(f"code=sm_{arch}" in calls(home / "cuda")[-1] for arch in (80, 90))
    shutil.rmtree(pathlib.Path(first).parents[1])
    gpu((13, 0), 90)
    assert look().status == MENDED


# What a process does at Jittor's import on the machine of `home` and `gpu`, the first to assemble being slow.
AT_ONCE = """
import os, pathlib, sys, time
from jvan.boot import cuda as boot_cuda
from jvan.boot.toolkit import assemble, driver, locate, parts
home, name = pathlib.Path(sys.argv[1]), sys.argv[2]
os.environ.clear()
os.environ.update(HOME=str(home), PATH=str(home / "cuda" / "bin"))
locate.USUAL, parts.SYSTEM = (), ((), ())
driver.version, driver.gpus = lambda: (13, 0), lambda: [driver.Gpu("GPU of sm_90", 90)]
fill = assemble._fill

def slowly(*arguments, **options):
    (home / f"{name}.begun").touch()
    end = time.monotonic() + 60
    while not (home / "go").exists() and time.monotonic() < end:
        time.sleep(0.01)
    return fill(*arguments, **options)

assemble._fill = slowly
print(name, flush=True)
print(boot_cuda.check_cuda(assembled=True).status, flush=True)
"""


def test_several_processes_at_once_make_one_home(home, gpu):
    fake_toolkit(home / "cuda", "13.0")
    command = [sys.executable, "-S", "-c", AT_ONCE, str(home)]
    before = {"PYTHONPATH": os.pathsep.join([str(ROOT), *bare_path()]), "HOME": str(home.parent / "elsewhere")}
    processes = [
        subprocess.Popen([*command, name], env=before, stdout=subprocess.PIPE, text=True) for name in ("a", "b", "c")
    ]
    try:
        assert all(process.stdout.readline() for process in processes), "all have started"
        end = time.monotonic() + 60
        while not list(home.glob("*.begun")) and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.3)
        assert len(list(home.glob("*.begun"))) == 1 and all(process.poll() is None for process in processes)
        (home / "go").touch()
        assert [process.communicate(timeout=60)[0] for process in processes] == [f"{MENDED}\n"] * 3
    finally:
        for process in processes:
            process.kill()
    assert len(calls(home / "cuda")) == len(list(home.glob("*.begun"))) == 1, "the others wait and take it"
    names = [path.name for path in (home / ".cache/jittor/jvan").iterdir()]
    assert len(names) == 2 and not any(name.startswith(".") for name in names), "the home and its lock"


@pytest.mark.parametrize(("cudnn", "archs"), [(8, [90]), (9, [90]), (8, [120])])
def test_systems_package_is_never_taken_apart(home, gpu, monkeypatch, cudnn, archs):
    """Its folder of headers is the system's: links to all of it would come before the compiler's own."""
    gpu((13, 0), *archs)
    nvcc = fake_toolkit(home / "usr", "12.0", cudnn=cudnn)
    (home / "usr" / "lib64").rename(home / "lib")
    monkeypatch.setattr(locate, "PACKAGED", str(nvcc))
    monkeypatch.setattr(parts, "PACKAGED", str(nvcc))
    monkeypatch.setattr(locate, "ask", lambda nvcc: locate.Toolkit(nvcc, str(home / "usr"), (12, 0)))
    monkeypatch.setattr(locate, "SYSTEMS", str(home / "lib"))
    put_on_path(nvcc)
    finding = look()
    if archs == [120]:
        assert switched_off(finding) and "the system's package" in finding.what and "NVIDIA's own" in finding.fix
        return
    assert finding.status == OK and os.environ["nvcc_path"] == str(nvcc)
    assert ("conv_opt" in os.environ) == ("without cuDNN" in finding.what) == (cudnn == 9)


def test_driver_without_compiler_downloads_nothing(home, gpu):
    put_on_path(write(home / "bin" / "nvidia-smi", "", 0o755))
    finding = look()
    assert (finding.status, os.environ["nvcc_path"]) == (SLOW, "") and "cuda13" in finding.fix
    gpu((12, 4), 90)
    assert "CUDA 11 or 12" in look().fix
    fake_toolkit(home / ".cache" / "jittor" / "jtcuda" / "cuda12.2_cudnn8_linux")
    assert look().status == OK, "Jittor's own toolkit, once downloaded, is used"


def test_users_variables_are_kept(home, gpu):
    os.environ.update(use_cutt="0", use_nccl="1")
    put_on_path(fake_toolkit(home / "cuda", "13.0"))
    assert look().status == MENDED and (os.environ["use_cutt"], os.environ["use_nccl"]) == ("0", "1")


def test_users_wish_for_cudnn_cannot_be_met(home, gpu):
    os.environ["conv_opt"] = "0"
    put_on_path(fake_toolkit(home / "cuda", cudnn=0))
    finding = look()
    assert switched_off(finding) and "conv_opt=0 asks for cuDNN" in finding.what and finding.fix == "unset conv_opt"


@pytest.mark.parametrize(
    ("version", "lacks", "status", "what"),
    [
        ("12.4", (), OK, "nvcc_path is set to"),
        ("13.0", (), BROKEN, "with whose headers Jittor 1.3.11 does not compile"),
        ("12.4", ("libcudart",), BROKEN, "finds no libcudart.so"),
    ],
)
def test_users_nvcc_is_kept_and_judged(home, gpu, version, lacks, status, what):
    put_on_path(fake_toolkit(home / "other"))
    nvcc = str(fake_toolkit(home / "cuda", version, lacks))
    os.environ["nvcc_path"] = nvcc
    for finding in (boot_cuda.check_cuda(), look()):
        assert finding.status == status and what in finding.what
        assert (f"jvan cuda-home --nvcc {nvcc}" in finding.fix) == (status == BROKEN)
    assert os.environ["nvcc_path"] == nvcc


def test_users_nvcc_that_is_not_there(home, gpu):
    os.environ["nvcc_path"] = "/nowhere/nvcc"
    finding = look()
    assert finding.status == BROKEN and finding.fix == "unset nvcc_path" and os.environ["nvcc_path"] == "/nowhere/nvcc"


def test_home_made_by_jvan_suits_as_users_choice(home, gpu):
    put_on_path(fake_toolkit(home / "cuda", "13.0"))
    look()
    made, boot_cuda.set_default.__globals__["_defaults"]["nvcc_path"] = os.environ["nvcc_path"], "something else"
    finding = look()
    assert finding.status == OK and finding.what == f"nvcc_path is set to {made}"


@pytest.mark.parametrize("given", [None, "6,7"])
def test_each_of_several_processes_takes_a_gpu_of_its_own(home, gpu, monkeypatch, given):
    put_on_path(fake_toolkit(home / "cuda", "13.0"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    look()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ, "one process alone"
    if given:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "4")
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "2")
    seen = []
    monkeypatch.setattr(boot_cuda.driver, "gpus", lambda: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]) or [])
    look()
    assert seen == [given or "2"], "before the driver is asked, which looks at it once"


@pytest.mark.parametrize(
    ("takes", "archs", "status", "what"),
    [
        (None, (), OK, "no NVIDIA driver"),
        ((13, 0), (), OK, "takes CUDA 13.0, and no GPU"),
        ((13, 0), (90,), OK, "GPU of sm_90 (sm_90); the driver takes CUDA 13.0"),
        ((12, 8), (90, 90), OK, "for several start as many with mpirun (NCCL is not supported)"),
        ((13, 0), (120,), SLOW, "Jittor compiles for sm_90 at most"),
    ],
)
def test_gpus_are_told(home, gpu, takes, archs, status, what):
    gpu(takes, *archs)
    finding = boot_cuda.check_gpus()
    assert finding.status == status and what in finding.what
