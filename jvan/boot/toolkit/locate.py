"""Where CUDA lies on this machine: compilers, the folder that each belongs to, and NVIDIA's wheels among Python's packages."""

from __future__ import annotations

import contextlib
import glob
import os
import platform
import re
import shutil
import sys
from typing import NamedTuple

MACHINE = "x86_64" if platform.machine() in ("x86_64", "AMD64") else "aarch64"
USUAL = ("/usr/local/cuda/bin/nvcc", "/usr/local/cuda-*/bin/nvcc", "/opt/cuda/bin/nvcc", "/usr/bin/nvcc")
PACKAGED, SYSTEMS = (
    "/usr/bin/nvcc",
    f"/usr/lib/{MACHINE}-linux-gnu",
)  # Debian's, and where Jittor knows its libraries to lie


class Toolkit(NamedTuple):
    """A compiler, as it is to be called; the folder that holds its bin, include and libraries; its version."""

    nvcc: str
    home: str
    version: tuple[int, int]

    @property
    def name(self) -> str:
        return f"CUDA {show(self.version)} at {self.home}"


def show(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def toolkits() -> list[Toolkit]:
    """Every toolkit, the one on PATH first, NVIDIA's wheels last; one for each folder."""
    found = {}
    for nvcc in candidates():
        toolkit = ask(nvcc)
        if toolkit:
            found.setdefault(os.path.realpath(toolkit.home), toolkit)
    return list(found.values())


def candidates() -> list[str]:
    """Every nvcc that could be called, without calling one."""
    roots = filter(None, (os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")))
    names = [shutil.which("nvcc"), *(os.path.join(root, "bin", "nvcc") for root in roots)]
    names += [name for pattern in USUAL for name in sorted(glob.glob(pattern), reverse=True)]
    names += [os.path.join(folder, "bin", "nvcc") for folder, _ in wheels()]
    return list(dict.fromkeys(name for name in names if name and os.path.isfile(name) and os.access(name, os.X_OK)))


def ask(nvcc: str) -> Toolkit | None:
    """What a compiler says of itself; None if it does not run. A script may call an nvcc that lies elsewhere."""
    release = re.search(r"release (\d+)\.(\d+)", _output([nvcc, "--version"]))
    if not release:
        return None
    version = int(release[1]), int(release[2])
    if nvcc == PACKAGED:
        return Toolkit(nvcc, "/usr", version)
    with open(nvcc, "rb") as file:
        is_script = file.read(2) == b"#!"
    if not is_script:
        real = os.path.realpath(nvcc)
        return Toolkit(real, os.path.dirname(os.path.dirname(real)), version)
    top = re.search(r"^#\$ TOP=(.+)$", _output([nvcc, "--dryrun", "-x", "cu", os.devnull]), re.MULTILINE)
    home = os.path.abspath(top[1]) if top else os.path.dirname(os.path.dirname(os.path.abspath(nvcc)))
    real = os.path.join(home, "bin", "nvcc")
    return Toolkit(real if os.access(real, os.X_OK) else nvcc, home, version)


def _output(command: list[str]) -> str:
    from ... import children  # 8 ms, and only where there is a driver

    with contextlib.suppress(OSError, children.SubprocessError):
        result = children.run_tool(command, stdout=children.PIPE, stderr=children.STDOUT, timeout=60)
        return result.stdout.decode("utf-8", "replace")
    return ""


def wheels() -> list[tuple[str, int]]:
    """(folder with include and lib, CUDA's major version) of NVIDIA's wheels, in the order of sys.path.

    Those of CUDA 13 share the folder nvidia/cu13; older ones have one each, and their package's name ends in -cu12.
    """
    found = []
    for site in dict.fromkeys(path for path in sys.path if path and os.path.isdir(os.path.join(path, "nvidia"))):
        packages = re.findall(r"^nvidia_(\w+)_cu(\d+)-.*\.dist-info$", "\n".join(os.listdir(site)), re.MULTILINE)
        for name in sorted(os.listdir(os.path.join(site, "nvidia"))):
            shared = re.fullmatch(r"cu(\d+)", name)
            majors = [shared[1]] if shared else [major for package, major in packages if package == name]
            found += [(os.path.join(site, "nvidia", name), int(major)) for major in majors]
    return found


def folders(toolkit: Toolkit) -> tuple[list[str], list[str]]:
    """(folders of headers, folders of libraries) in which Jittor itself looks when it is given this toolkit's nvcc."""
    targets = os.path.join(toolkit.home, "targets", f"{MACHINE}-linux")
    includes = [os.path.join(toolkit.home, "include"), os.path.join(targets, "include")]
    first = SYSTEMS if toolkit.nvcc == PACKAGED else os.path.join(toolkit.home, "lib64")
    return includes, [first, os.path.join(targets, "lib")]


def more_folders(toolkit: Toolkit) -> tuple[list[str], list[str]]:
    """The same, in which it does not look: the toolkit's other folder, and the wheels of its major version."""
    fitting = [folder for folder, major in wheels() if major == toolkit.version[0]]
    return [os.path.join(folder, "include") for folder in fitting], [
        os.path.join(folder, "lib") for folder in (toolkit.home, *fitting)
    ]
