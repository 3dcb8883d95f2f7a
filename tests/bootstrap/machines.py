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


def fake_toolkit(folder: pathlib.Path, library: str | None = "libcudart.so") -> pathlib.Path:
    """A CUDA toolkit; its nvcc. `library` None: a compiler without its run time; libcudart.so.13: that version's."""
    nvcc = write(folder / "bin" / "nvcc", "#!/bin/sh\n", 0o755)
    if library:
        write(folder / "lib64" / library)
        if library != "libcudart.so":
            (folder / "lib64" / "libcudart.so").symlink_to(library)
    return nvcc


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
