"""Which nvcc Jittor would take, and whether its import survives that."""

from __future__ import annotations

import glob
import os
import re
import shutil

from ._boot_common import MENDED, OK, SLOW, Finding, asked, by_user, choose, jittor_cache, leave

# in Jittor's order, after jtcuda (its own download) and nvcc on PATH
USUAL_NVCC = ("/usr/local/cuda/bin/nvcc", "/usr/bin/nvcc", "/opt/cuda/bin/nvcc")
NEWEST_CUDA = 12


def check_cuda(ask_driver: bool = False) -> Finding:
    """Leave a whole toolkit on; switch off what would make the import fail, or start a download of gigabytes.

    `ask_driver` loads the driver's library, so it is for the moment before Jittor is imported: where a
    toolkit meets no driver, Jittor's core ends the process.
    """
    if by_user("nvcc_path"):
        path = asked("nvcc_path")
        return Finding(
            "CUDA", OK, f"nvcc_path is set to {path}" if path else "switched off by an empty nvcc_path: CPU only"
        )
    smi = shutil.which("nvidia-smi") is not None  # Jittor asks it, and nothing else, before it takes jtcuda
    if smi and has_jtcuda():
        return Finding("CUDA", OK, "Jittor's own toolkit (jtcuda)")
    found = [nvcc for nvcc in map(shutil.which, ("nvcc", *USUAL_NVCC)) if nvcc]
    if not found:
        return _driver_only() if smi else Finding("CUDA", OK, "no nvcc: CPU only")
    nvcc = next((nvcc for nvcc in found if not lacks(nvcc)), None)
    if nvcc is None:
        fix = "for a GPU: install a whole CUDA 11 or 12 toolkit and set nvcc_path to its bin/nvcc"
        return _off(f"{found[0]} {lacks(found[0])}", fix)
    if ask_driver and not has_driver():
        return _off(f"{nvcc} is whole, but there is no driver (libcuda.so.1)")
    if nvcc == found[0]:
        leave("nvcc_path")
        return Finding("CUDA", OK, f"{nvcc} with its libcudart.so")
    choose("nvcc_path", nvcc)
    return Finding("CUDA", MENDED, f"{found[0]} {lacks(found[0])}; {nvcc} is whole and taken instead")


def lacks(nvcc: str) -> str:
    """What keeps Jittor from starting with this nvcc, or an empty string."""
    library = cudart(nvcc)
    if not os.path.isfile(library):
        return f"has no {library}"
    version = re.search(r"libcudart\.so\.(\d+)", os.path.realpath(library))
    if version and int(version.group(1)) > NEWEST_CUDA:
        return f"belongs to CUDA {version.group(1)}, whose headers Jittor 1.3.11 does not compile with"
    return ""


def cudart(nvcc: str) -> str:
    """Where Jittor loads libcudart.so from for this nvcc: links followed, wrapper scripts not."""
    if nvcc == "/usr/bin/nvcc":  # Debian's package
        return "/usr/lib/x86_64-linux-gnu/libcudart.so"
    path = os.path.abspath(nvcc)
    if os.path.islink(path):
        path = os.path.realpath(path)
    return os.path.abspath(os.path.join(os.path.dirname(path), "..", "lib64", "libcudart.so"))


def has_jtcuda() -> bool:
    """Whether Jittor has downloaded a toolkit of its own, whole."""
    return any(
        os.path.isfile(cudart(nvcc)) for nvcc in glob.glob(os.path.join(jittor_cache(), "jtcuda", "*", "bin", "nvcc"))
    )


def has_driver() -> bool:
    import ctypes  # not needed where there is no toolkit

    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _off(why: str, fix: str = "") -> Finding:
    choose("nvcc_path", "")
    return Finding("CUDA", MENDED, f"{why}: switched off, CPU only", fix)


def _driver_only() -> Finding:
    # with a driver and no nvcc, Jittor's import downloads a toolkit from its own server, and fails where it cannot
    choose("nvcc_path", "")
    fix = "for the GPU: python -m jittor_utils.install_cuda, or install the CUDA toolkit"
    return Finding("CUDA", SLOW, "an NVIDIA driver but no nvcc: CPU only", fix)
