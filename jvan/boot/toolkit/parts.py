"""The headers and libraries that Jittor 1.3.11 wants: what a toolkit has of them, what it lacks, what must be adapted."""

from __future__ import annotations

import contextlib
import os
import re
from typing import NamedTuple

from .locate import MACHINE, PACKAGED, Toolkit, folders, more_folders

NEEDED = {  # without these the import of Jittor fails
    "the CUDA runtime": ("nvidia-cuda-runtime", ("cuda_runtime.h",), ("libcudart.so",)),
    "cuBLAS": ("nvidia-cublas", ("cublas.h", "cublas_v2.h"), ("libcublas.so", "libcublasLt.so")),
    "cuRAND": ("nvidia-curand", ("curand.h",), ("libcurand.so",)),
}
OPTIONAL = {  # without one of these Jittor takes none of them, with conv_opt=1
    "cuDNN": (("cudnn.h", "cudnn_version.h"), ("libcudnn.so", "libcudnn_ops{infer}.so", "libcudnn_cnn{infer}.so")),
    "cuFFT": (("cufft.h",), ("libcufft.so",)),
    "cuSPARSE": (("cusparse.h",), ("libcusparse.so",)),
}
SYSTEM = (  # Debian's and NVIDIA's packages of cuDNN and NCCL; nothing else there may come first on a compiler's path
    ["/usr/include", f"/usr/include/{MACHINE}-linux-gnu"],
    [f"/usr/lib/{MACHINE}-linux-gnu", "/usr/lib64", "/usr/lib"],
)
# (from this CUDA on, the newest architecture that Jittor compiles for); the driver gets nothing that it could translate
NEWEST_ARCHS = (((11, 8), 90), ((11, 1), 86), ((11, 0), 80), ((0, 0), 75))
OLDEST_ARCHS = (((13, 0), 75), ((12, 0), 50), ((0, 0), 30))  # which nvcc compiles for


class Parts(NamedTuple):
    """Paths by name: what lies in folders of headers (folders, too), and libraries, each also under its plain name."""

    headers: dict[str, str]
    libraries: dict[str, str]

    def text(self, *names: str) -> str:
        """The content of the first of these headers that is there."""
        for name in names:
            top, _, rest = name.partition("/")
            with (
                contextlib.suppress(OSError, KeyError),
                open(
                    os.path.join(self.headers[top], rest) if rest else self.headers[top],
                    encoding="utf-8",
                    errors="replace",
                ) as file,
            ):
                return file.read()
        return ""

    @property
    def cudnn(self) -> int:
        """cuDNN's major version; 0 without it."""
        return _number(r"#define\s+CUDNN_MAJOR\s+(\d+)", self.text("cudnn_version.h", "cudnn_version_v9.h"))

    @property
    def cub(self) -> int:
        """CUB's version: 300000 is 3.0.0; 0 without it."""
        return _number(r"#define\s+CUB_VERSION\s+(\d+)", self.text("cccl/cub/version.cuh", "cub/version.cuh"))

    @property
    def has_device_fields(self) -> bool:
        """Whether cudaDeviceProp still has the fields that Jittor's helper_cuda.h reads."""
        return bool(re.search(r"\bclockRate\b", self.text("driver_types.h")))


def of_toolkit(toolkit: Toolkit) -> Parts:
    """What Jittor itself finds when it is given this toolkit."""
    return collect(*folders(toolkit), system=SYSTEM)


def of_machine(toolkit: Toolkit) -> Parts:
    """What a home for this toolkit can be made of: its own files, then the wheels', then the system's cuDNN."""
    own, more = folders(toolkit), more_folders(toolkit)
    return collect(own[0] + more[0], own[1] + more[1], system=SYSTEM)


def cudart(toolkit: Toolkit) -> str:
    """The library that Jittor opens before all others."""
    return os.path.join(folders(toolkit)[1][0], "libcudart.so")


def collect(includes: list[str], libraries: list[str], system=((), ())) -> Parts:
    """Everything in these folders, the first of a name kept, and of the system's folders cuDNN and NCCL alone."""
    headers: dict[str, str] = {}
    found: dict[str, str] = {}
    for places, into, wanted, of_system in (
        (includes, headers, r"(?!__)[^.].*", r"(cudnn|nccl)\w*\.h"),
        (libraries, found, r"lib.*\.(so|a)(\.[\d.]+)?", r"lib(cudnn|nccl).*\.so(\.[\d.]+)?"),
    ):
        for place in places:
            _add(into, place, wanted)
        for place in system[0 if into is headers else 1]:
            _add(into, place, of_system)
    for name in sorted(found):
        plain = re.sub(r"\.so\..*", ".so", name)
        if plain != name:  # wheels have no plain names
            found.setdefault(plain, found[name])
    return Parts(headers, found)


def _add(into: dict[str, str], place: str, pattern: str) -> None:
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(place)):
            if re.fullmatch(pattern, name) and os.path.exists(os.path.join(place, name)):
                into.setdefault(name, os.path.join(place, name))


def missing(parts: Parts, toolkit: Toolkit) -> list[tuple[str, str]]:
    """(what, the wheel that has it) of all that Jittor cannot do without and the machine does not have."""
    gone = [(what, wheel) for what, (wheel, *names) in NEEDED.items() if not _has(parts, *names)]
    if toolkit.version[0] > 12:
        if not os.path.isfile(os.path.join(toolkit.home, "nvvm", "bin", "cicc")):
            gone.append(("cicc", "nvidia-nvvm"))
        if "crt" not in parts.headers:
            gone.append(("the compiler's headers", "nvidia-cuda-crt"))
        if not parts.cub:
            gone.append(("CUB", "nvidia-cuda-cccl"))
    return gone


def without(parts: Parts) -> list[str]:
    """Which of the libraries that Jittor can do without the machine does not have."""
    infer = "" if parts.cudnn >= 9 else "_infer"
    return [
        what
        for what, (headers, libraries) in OPTIONAL.items()
        if not _has(parts, headers, [name.format(infer=infer) for name in libraries])
    ]


def unused(toolkit: Toolkit, *, whole: bool) -> list[str]:
    """Which of them Jittor goes without, given the assembled home, or given the toolkit as it is (`whole` False)."""
    if whole:
        return without(of_machine(toolkit))
    stock = of_toolkit(toolkit)
    return without(stock) or (["cuDNN"] if stock.cudnn > 8 else [])


def _has(parts: Parts, headers, libraries) -> bool:
    return all(name in parts.headers for name in headers) and all(name in parts.libraries for name in libraries)


def reasons(toolkit: Toolkit, archs: list[int]) -> list[str]:
    """Why stock Jittor does not run with this toolkit as it is; none: it does, given conv_opt=1 where cuDNN is missing."""
    stock, machine = of_toolkit(toolkit), of_machine(toolkit)
    found = []
    if not os.path.isfile(cudart(toolkit)):
        found.append("libcudart.so is not where Jittor looks for it")
    elif missing(stock, toolkit):
        found.append("libraries lie elsewhere")
    if not stock.has_device_fields:
        found.append("cudaDeviceProp has changed")
    if "npp.h" not in stock.headers:
        found.append("npp.h is missing")
    if stock.cub >= 300000:
        found.append("CUB 3 has dropped names")
    if toolkit.nvcc != PACKAGED and not without(machine) and (without(stock) or stock.cudnn > 8):
        found.append("cuDNN 9 has changed" if machine.cudnn > 8 else "cuDNN lies elsewhere")
    if any(arch > newest_arch(toolkit) for arch in archs):
        found.append(f"Jittor compiles for sm_{newest_arch(toolkit)} at most")
    return found


def newest_arch(toolkit: Toolkit) -> int:
    return next(arch for version, arch in NEWEST_ARCHS if toolkit.version >= version)


def oldest_arch(toolkit: Toolkit) -> int:
    return next(arch for version, arch in OLDEST_ARCHS if toolkit.version >= version)


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    return int(match[1]) if match else 0
