"""Fake machines for the tests of the bootstrap: homes, wheels, toolkits, stand-ins for Jittor."""

from __future__ import annotations

import os
import pathlib
import struct
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLACE = ".cache/jittor/mkl/dnnl_lnx_2.2.0_cpu_gomp"


def write(path: pathlib.Path, content: str | bytes = "", mode: int = 0o644) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def bare_path() -> list[str]:
    """sys.path without what pip installed."""
    return [path for path in sys.path if "-packages" not in path]


def elf(note: bytes = b"") -> bytes:
    """The smallest file that is a whole 64-bit ELF library: a header, `note`, a table of one section."""
    start = 64 + len(note)
    header = (
        b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, start, 0, 64, 0, 0, 64, 1, 0)
    )
    return header + note + bytes(64)


def fake_wheel(data: pathlib.Path, site: pathlib.Path, soname: str = "libdnnl.so.2") -> None:
    """oneDNN's two packages as pip lays them out: files under `data`, their lists under `site`."""
    headers = ["dnnl.h", "dnnl.hpp", "dnnl_version.h", "oneapi/dnnl/dnnl.hpp", "oneapi/dnnl/dnnl_types.h"]
    packages = {
        "onednn_devel_cpu_gomp": [f"include/{name}" for name in headers],
        "onednn_cpu_gomp": [f"lib/{soname}"],
    }
    write(data / "include" / "unrelated.h", "not oneDNN's")
    for package, names in packages.items():
        for name in names:
            write(data / name, elf(b"the wheel's") if name.startswith("lib/") else f"// {name}")
        info = site / f"{package}-2022.2.1.dist-info"
        write(info / "METADATA", f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 2022.2.1\n")
        rows = [f"{os.path.relpath(data / name, site)},," for name in names]
        write(info / "RECORD", "\n".join([*rows, f"{info.name}/METADATA,,", ""]))


# answers what jvan asks, notes every other call beside itself, and writes an empty file where it is to compile
NVCC = """#!/bin/sh
case "$1" in
--version) echo "Cuda compilation tools, release {version}, V{version}.99" ;;
--dryrun) echo "#$ TOP={folder}/bin/.." ;;
*)
    echo "$@" >>'{folder}/calls'
    while [ $# -gt 0 ]; do [ "$1" = -o ] && : >"$2"; shift; done ;;
esac
"""
CUDA_HEADERS = {
    "cuda_runtime.h": "", "cublas.h": "", "cublas_v2.h": "", "curand.h": "", "cufft.h": "", "cusparse.h": "", "crt/host_config.h": "",
}  # fmt: skip
CUDA_LIBRARIES = ("libcudart", "libcublas", "libcublasLt", "libcurand", "libcufft", "libcusparse")


def fake_toolkit(folder: pathlib.Path, version: str = "12.4", lacks: tuple = (), cudnn: int = 8) -> pathlib.Path:
    """A CUDA toolkit of empty files, laid out as NVIDIA's of that version, cuDNN in it; its nvcc. `lacks`: names left out."""
    nvcc = write(folder / "bin" / "nvcc", NVCC.format(version=version, folder=folder), 0o755)
    write(folder / "nvvm" / "bin" / "cicc")
    fill_cuda(folder, "lib64", version, lacks)
    for name in CUDA_LIBRARIES:
        if (folder / "lib64" / f"{name}.so.1").exists():
            (folder / "lib64" / f"{name}.so").symlink_to(f"{name}.so.1")
    if cudnn:
        fake_cudnn(folder, "lib64", cudnn)
    if "npp.h" not in lacks:
        write(folder / "include" / "npp.h")
    return nvcc


def fill_cuda(folder: pathlib.Path, lib: str, version: str, lacks: tuple = ()) -> None:
    """CUDA's headers and libraries, the latter with numbered names only, as in a wheel."""
    new = int(version.split(".")[0]) > 12
    fields = "char name[256]; int major;" + ("" if new else " int clockRate, computeMode;")
    headers = {
        **CUDA_HEADERS,
        "driver_types.h": f"struct __device_builtin__ cudaDeviceProp\n{{\n    {fields}\n}};\n",
        ("cccl/cub" if new else "cub") + "/version.cuh": f"#define CUB_VERSION {300001 if new else 200200}\n",
    }
    for name, text in headers.items():
        if not any(name.startswith(gone) for gone in lacks):
            write(folder / "include" / name, text)
    for name in CUDA_LIBRARIES:
        if name not in lacks:
            write(folder / lib / f"{name}.so.1")


def fake_cudnn(folder: pathlib.Path, lib: str, major: int) -> None:
    write(folder / "include" / "cudnn.h", "// NVIDIA's\n")
    write(folder / "include" / "cudnn_version.h", f"#define CUDNN_MAJOR {major}\n")
    parts = ("", "_ops", "_cnn") if major > 8 else ("", "_ops_infer", "_ops_train", "_cnn_infer", "_cnn_train")
    for part in parts:
        write(folder / lib / f"libcudnn{part}.so.{major}")
        if lib == "lib64":
            (folder / lib / f"libcudnn{part}.so").symlink_to(f"libcudnn{part}.so.{major}")


def fake_jittor(folder: pathlib.Path, body: str = "", numpy: str = "1.26.4", compiled: bool = True) -> pathlib.Path:
    """Stand-ins for jittor, jittor_utils and numpy, which do to the process what Jittor's import does."""
    write(folder / "jittor" / "__init__.py", f"__version__ = '1.3.11.0'\nimport jittor_utils\n{body}\n")
    utils = (
        "import os, signal, ssl, sys\n"
        f"cache_path = {str(folder / 'core')!r}\n"
        "ssl._create_default_https_context = ssl._create_unverified_context\n"
        "sys.setrecursionlimit(10**6)\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    )
    write(folder / "jittor_utils" / "__init__.py", utils)
    write(folder / "numpy" / "__init__.py", f"__version__ = {numpy!r}\n")
    write(folder / "numpy" / "version.py", f'"""Generated."""\nversion = "{numpy}"\n__version__ = version\n')
    if compiled:
        write(folder / "core" / "jittor_core.cpython-311-x86_64-linux-gnu.so")
    return folder


def python(code: str, *path: pathlib.Path, **environment: str | None) -> subprocess.CompletedProcess:
    """Run code in a Python that sees this checkout, `path` before it, and nothing that pip installed."""
    surroundings = {"PATH": os.environ["PATH"], "use_mkl": "0", "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))}
    surroundings.update(environment)
    surroundings = {name: value for name, value in surroundings.items() if value is not None}
    command = [sys.executable, "-S", "-W", "always", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=surroundings, cwd="/")
