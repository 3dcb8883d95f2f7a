"""Which CUDA Jittor gets: a toolkit that suits it as it is, a home assembled for it, or none, with the reason."""

from __future__ import annotations

import glob
import os
import shutil

from .._say import say
from ..errors import JvanError
from .cache import make
from .settings import BROKEN, MENDED, OK, SLOW, Finding, jittor_cache, locked, set_by_user, set_default, setting
from .shell import QUOTED
from .toolkit import driver, locate, parts

LINE = "preparing {toolkit} for Jittor, once: a few seconds"
WHEELS = "pip install 'jvan[cuda13]'"
DOWN = "CPU only"


def check_cuda(assembled: bool = False) -> Finding:
    """Give Jittor the newest CUDA that the driver takes, or switch it off where the import would fail or download one.

    The compilers and the driver are asked, and a home is assembled, only if `assembled`: at the moment when Jittor
    is imported. Before, it is enough to protect a process that imports Jittor alone.
    """
    if set_by_user("nvcc_path"):
        return _users_choice(setting("nvcc_path"))
    smi = shutil.which("nvidia-smi") is not None  # Jittor asks it, and nothing else, before it takes or gets jtcuda
    if smi and has_jtcuda():
        return Finding("CUDA", OK, "Jittor's own toolkit (jtcuda)")
    compilers = locate.candidates()
    if not compilers:
        return _driver_only() if smi else Finding("CUDA", OK, f"no nvcc: {DOWN}")
    takes = driver.version()
    if takes is None:
        return _off(f"{compilers[0]}, but no driver (libcuda.so.1)")
    if not assembled:
        return Finding("CUDA", OK, "a driver and a compiler; looked at when Jittor is imported")
    _take_one_of_several()
    gpus = driver.gpus()
    if not gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return _off("a driver, but no GPU" + (f" (CUDA_VISIBLE_DEVICES is {visible!r})" if visible is not None else ""))
    return _with_gpus(takes, sorted({gpu.arch for gpu in gpus}))


def _take_one_of_several() -> None:
    """Of the processes that mpirun starts on one machine each gets a GPU of its own, unless the user has said which."""
    if int(os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1")) > 1:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", os.environ["OMPI_COMM_WORLD_LOCAL_RANK"])


def _with_gpus(takes: tuple[int, int], archs: list[int]) -> Finding:
    toolkits = locate.toolkits()
    toolkit, faults = best(toolkits, takes, archs)
    if toolkit is None:
        what, fix = faults[0] if faults else ("no nvcc that runs", WHEELS if takes >= (13, 0) else "")
        return _off(what, fix)
    why = parts.reasons(toolkit, archs)
    lacking = parts.unused(toolkit, whole=bool(why))
    if lacking and set_by_user("conv_opt") and setting("conv_opt") in ("", "0"):
        return _off(f"conv_opt=0 asks for {', '.join(lacking)}, which {toolkit.name} lacks", "unset conv_opt")
    try:
        home = home_for(toolkit, archs, whole=bool(why))
    except (JvanError, OSError) as error:
        return _off(str(error), "python -m jvan.doctor, once that is mended")
    from .toolkit.assemble import settings

    for variable, value in settings(home).items():
        set_default(variable, value)
    notes = [f"without {', '.join(lacking)}: Jittor's own convolutions are slow"] if lacking else []
    notes += _others(toolkits, toolkit)
    what = f"{toolkit.name} " + (f"as {home}, since {', '.join(why)}" if why else "as it is")
    return Finding("CUDA", MENDED if why else OK, "; ".join([what, *notes]))


def best(toolkits: list[locate.Toolkit], takes: tuple[int, int], archs: list[int]):
    """(The newest whole toolkit that the driver takes, or None; [(what is wrong with the others, how to mend it)]).

    A driver also runs newer programs of its major version: those are second choice.
    """
    whole, faults = [], []
    for toolkit in toolkits:
        fault = _fault(toolkit, takes, archs)
        if fault:
            faults.append(fault)
        else:
            whole.append(toolkit)
    return max(whole, key=lambda row: (row.version <= takes, row.version), default=None), faults


def _fault(toolkit: locate.Toolkit, takes: tuple[int, int], archs: list[int]) -> tuple[str, str] | None:
    if QUOTED.search(toolkit.nvcc + toolkit.home):
        return f"{toolkit.name} lies in a folder whose name a shell would not take literally", "move it"
    major = toolkit.version[0]
    if major > takes[0]:
        what = f"{toolkit.name} needs a newer driver: this one takes CUDA {locate.show(takes)}"
        return what, f"install a driver for CUDA {major}, or a toolkit of CUDA {takes[0]}"
    if archs and archs[0] < parts.oldest_arch(toolkit):
        return f"{toolkit.name} does not compile for sm_{archs[0]} any more", "install a toolkit of CUDA 12"
    missing = parts.missing(parts.of_machine(toolkit), toolkit)
    if missing:
        return f"{toolkit.name} lacks {', '.join(what for what, _ in missing)}", _wheels(toolkit, missing)
    why = parts.reasons(toolkit, archs) if toolkit.nvcc == locate.PACKAGED else []
    if why:  # its headers lie among the system's, which cannot all be linked
        return f"the system's package of {toolkit.name} does not suit: {', '.join(why)}", "install NVIDIA's own toolkit"
    return None


def _wheels(toolkit: locate.Toolkit, missing: list[tuple[str, str]]) -> str:
    if toolkit.version[0] < 13:
        return "install the whole toolkit"
    version = locate.show(toolkit.version)  # the libraries of mathematics have their own versions
    own = ("nvidia-cuda", "nvidia-nvvm")
    return "pip install " + " ".join(
        f"'{wheel}=={version}.*'" if wheel.startswith(own) else wheel for _, wheel in missing
    )


def home_for(toolkit: locate.Toolkit, archs: list[int], *, whole: bool) -> str:
    """The folder of the assembled home, made now if it is not there yet. JvanError if nvcc fails; OSError."""
    from .toolkit.assemble import assemble, is_home, key

    folder = os.path.join(jittor_cache(), "jvan", key(toolkit, archs, whole=whole))
    if not is_home(folder):
        make(os.path.dirname(folder))
        with locked(f"{folder}.lock"):
            if not is_home(folder):  # another process may have been quicker
                say(LINE.format(toolkit=toolkit.name))
                assemble(folder, toolkit, archs, whole=whole)
    return folder


def _others(toolkits: list[locate.Toolkit], taken: locate.Toolkit) -> list[str]:
    others = [toolkit.name for toolkit in toolkits if toolkit is not taken]
    return [f"not taken: {', '.join(others)} (nvcc_path overrides)"] if others else []


def _users_choice(nvcc: str) -> Finding:
    if not nvcc:
        return Finding("CUDA", OK, f"switched off by an empty nvcc_path: {DOWN}")
    path = shutil.which(nvcc)
    if path is None:
        return Finding("CUDA", BROKEN, f"nvcc_path is set to {nvcc}, which cannot be run", "unset nvcc_path")
    home = "/usr" if path == locate.PACKAGED else os.path.dirname(os.path.dirname(os.path.realpath(path)))
    toolkit = locate.Toolkit(path, home, (0, 0))
    stock, fix = parts.of_toolkit(toolkit), f'unset nvcc_path, or eval "$(jvan cuda-home --nvcc {nvcc})"'
    if not os.path.isfile(parts.cudart(toolkit)):
        return Finding("CUDA", BROKEN, f"nvcc_path is set to {nvcc}, beside which Jittor finds no libcudart.so", fix)
    if "driver_types.h" in stock.headers and not stock.has_device_fields:
        what = f"nvcc_path is set to {nvcc}, with whose headers Jittor 1.3.11 does not compile"
        return Finding("CUDA", BROKEN, what, fix)
    return Finding("CUDA", OK, f"nvcc_path is set to {nvcc}")


def check_gpus() -> Finding:
    """What the driver sees, and what Jittor cannot make of it."""
    takes = driver.version()
    if takes is None:
        return Finding("GPU", OK, "no NVIDIA driver (libcuda.so.1)")
    gpus = driver.gpus()
    if not gpus:
        return Finding(
            "GPU", OK, f"a driver that takes CUDA {locate.show(takes)}, and no GPU that it shows to this process"
        )
    what = [f"{', '.join(f'{gpu.name} (sm_{gpu.arch})' for gpu in gpus)}; the driver takes CUDA {locate.show(takes)}"]
    if len(gpus) > 1:
        what.append("a process uses one, the first; for several start as many with mpirun (NCCL is not supported)")
    newer = any(gpu.arch > parts.NEWEST_ARCHS[0][1] for gpu in gpus)
    if newer:
        what.append(
            f"Jittor compiles for sm_{parts.NEWEST_ARCHS[0][1]} at most, so the driver translates its kernels, which nobody has tried"
        )
    return Finding("GPU", SLOW if newer else OK, "; ".join(what))


def has_jtcuda() -> bool:
    """Whether Jittor has downloaded its own toolkit, whole."""
    installed = glob.glob(os.path.join(glob.escape(jittor_cache()), "jtcuda", "*", "bin", "nvcc"))
    return any(os.path.isfile(os.path.join(nvcc[: -len("bin/nvcc")], "lib64", "libcudart.so")) for nvcc in installed)


def _off(why: str, fix: str = "") -> Finding:
    set_default("nvcc_path", "")
    return Finding("CUDA", MENDED, f"{why}: switched off, {DOWN}", fix)


def _driver_only() -> Finding:
    # with a driver and no nvcc, Jittor's import downloads a toolkit from its own server, and fails where it cannot
    set_default("nvcc_path", "")
    takes = driver.version() or (0, 0)
    fix = WHEELS if takes >= (13, 0) else "install a toolkit of CUDA 11 or 12, whole"
    return Finding("CUDA", SLOW, f"an NVIDIA driver but no nvcc: {DOWN}", f"for the GPU: {fix}")
