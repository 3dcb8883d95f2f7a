"""A CUDA home that stock Jittor accepts: links to what the machine has, a few headers in between, a compiler script.

What stands in the way is said in docs/gpu.md. Nothing is downloaded and Jittor's own files stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import tempfile

from ... import children
from ...errors import JvanError
from ..settings import setting
from . import parts as of
from .locate import Toolkit, folders, show
from .swap import put

HERE = os.path.dirname(os.path.abspath(__file__))
MANIFEST = "jvan-cuda.json"  # written last: a folder that holds it is a whole home
LAYOUT = 1  # raised when this file makes something else of the same parts
CUDNN_8 = ("ops_infer", "ops_train", "cnn_infer", "cnn_train")  # libraries that Jittor opens, merged in cuDNN 9


def key(toolkit: Toolkit, archs: list[int], *, whole: bool) -> str:
    """A name for the home that is made of exactly this: sizes and times of the machine's files, contents of jvan's.

    Jittor compiles everything anew, for minutes, when the name changes.
    """
    digest = hashlib.sha256(json.dumps([LAYOUT, toolkit, archs, whole]).encode())
    for path in _own_files():
        with open(path, "rb") as file:
            digest.update(file.read())
    machine = of.of_machine(toolkit)
    for path in (*machine.headers.values(), *machine.libraries.values()):
        stat = os.stat(path)
        digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return f"cuda-{show(toolkit.version)}-{digest.hexdigest()[:12]}"


def _own_files() -> list[str]:
    folders = [os.path.join(HERE, name) for name in ("shim", "transpose")]
    return sorted(
        os.path.join(place, name) for folder in folders for place, _, names in os.walk(folder) for name in names
    )


def is_home(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, MANIFEST))


def settings(folder: str) -> dict[str, str]:
    """Jittor's variables for a home, as its manifest has them."""
    with open(os.path.join(folder, MANIFEST), encoding="utf-8") as file:
        variables = json.load(file)["variables"]
    return {name: value.replace("@HOME@", folder) for name, value in variables.items()}


def assemble(folder: str, toolkit: Toolkit, archs: list[int], *, whole: bool) -> None:
    """Make the home, instead of an earlier one of jvan's, whole or not at all. JvanError if nvcc fails; OSError.

    `whole` False leaves the toolkit to Jittor as it is and adds only the transposition.
    """
    parent = os.path.dirname(os.path.abspath(folder))
    os.makedirs(parent, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix=".jvan-", dir=parent)
    try:
        new = os.path.join(scratch, "new")
        variables = _fill(new, toolkit, archs, whole=whole)
        with open(os.path.join(new, MANIFEST), "w", encoding="utf-8") as file:
            json.dump({"made of": toolkit.name, "archs": archs, "variables": variables}, file, indent=2)
        put(new, os.path.abspath(folder), scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fill(home: str, toolkit: Toolkit, archs: list[int], *, whole: bool) -> dict[str, str]:
    machine = of.of_machine(toolkit)
    if whole:
        _link(machine.headers, os.path.join(home, "include"))
        _link(machine.libraries, os.path.join(home, "lib64"))
        _adapt(home, machine)
        _write_compiler(home, toolkit, archs)
    shutil.copytree(os.path.join(HERE, "transpose"), os.path.join(home, "cutt", "include"))
    _compile_transpose(home, toolkit, archs, whole=whole)
    variables = {
        "nvcc_path": "@HOME@/bin/nvcc" if whole else toolkit.nvcc,
        "use_cutt": "1",
        "cutt_include_path": "@HOME@/cutt/include",
        "cutt_lib_path": "@HOME@/cutt/lib",
        "use_cutlass": "0",  # no operator of Jittor's uses it, and it would be downloaded
        "use_nccl": "0",  # would be downloaded
    }
    if of.unused(toolkit, whole=whole):
        variables["conv_opt"] = "1"  # Jittor's own mode without cuDNN, cuFFT and cuSPARSE
    return variables


def _link(paths: dict[str, str], folder: str) -> None:
    os.makedirs(folder)
    for name, path in paths.items():
        os.symlink(os.path.abspath(path), os.path.join(folder, name))


def _adapt(home: str, machine: of.Parts) -> None:
    """Put a header of jvan's instead of a link wherever Jittor's code would not compile with NVIDIA's."""
    include, lib = os.path.join(home, "include"), os.path.join(home, "lib64")
    if not machine.has_device_fields:
        _replace(os.path.join(include, "driver_types.h"), with_device_fields(machine.text("driver_types.h")))
    if "npp.h" not in machine.headers:
        _copy("npp.h", include)
    if machine.cub >= 300000:
        if os.path.islink(os.path.join(include, "cub")):
            os.unlink(os.path.join(include, "cub"))
        os.makedirs(os.path.join(include, "cub"))
        _copy("cub/cub.cuh", include)
    if machine.cudnn >= 9:
        os.symlink(machine.headers["cudnn.h"], os.path.join(include, "cudnn_as_it_is.h"))
        _copy("cudnn.h", include)
        for name in CUDNN_8:
            link = os.path.join(lib, f"libcudnn_{name}.so")
            if not os.path.lexists(link):
                os.symlink(f"libcudnn_{name[:3]}.so", link)


def with_device_fields(text: str) -> str:
    """driver_types.h with the fields of cudaDeviceProp that CUDA 13 dropped, static so that the layout stays NVIDIA's.

    Jittor's helper_cuda.h names them in functions that nothing calls.
    """
    fields = "#ifdef __cplusplus\n    static const int computeMode = 0, clockRate = 1;  // added by jvan\n#endif\n"
    changed, count = re.subn(r"(struct\s[^;{}]*\bcudaDeviceProp\s*\{[^}]*)(\})", rf"\g<1>{fields}\g<2>", text, count=1)
    if not count:
        raise JvanError("driver_types.h holds no struct cudaDeviceProp as jvan knows it")
    return changed


def _write_compiler(home: str, toolkit: Toolkit, archs: list[int]) -> None:
    rules = ["*) ;;"]
    newest = of.newest_arch(toolkit)
    if any(arch > newest for arch in archs):  # PTX, which the driver translates for what is newer
        rules.insert(0, f"-code=sm_{newest}) word=-code=sm_{newest},compute_{newest} ;;")
    if toolkit.version >= (13, 0):  # CUB 3 and libcu++ refuse C++14, which Jittor asks for
        rules.insert(0, "-std=c++14 | -std:c++14) word=-std=c++17 ;;")
    with open(os.path.join(HERE, "shim", "nvcc.sh"), encoding="utf-8") as file:
        script = file.read()
    script = script.replace("@RULES@", "\n".join(f"    {rule}" for rule in rules))
    os.makedirs(os.path.join(home, "bin"))
    path = os.path.join(home, "bin", "nvcc")
    _replace(path, script.replace("@NVCC@", shlex.quote(toolkit.nvcc)))
    os.chmod(path, 0o755)


def _compile_transpose(home: str, toolkit: Toolkit, archs: list[int], *, whole: bool) -> None:
    cutt = os.path.join(home, "cutt")
    os.makedirs(os.path.join(cutt, "lib"))
    own = folders(toolkit)
    include, lib = (os.path.join(home, "include"), os.path.join(home, "lib64")) if whole else (own[0][0], own[1][0])
    command = [os.path.join(home, "bin", "nvcc") if whole else toolkit.nvcc, "-O3", "-std=c++14", "-w", "-shared"]
    command += [
        "--cudart=shared",
        "-Xcompiler",
        "-fPIC",
        "-ccbin",
        setting("cc_path") or "g++",
        *_targets(toolkit, archs),
    ]
    command += [
        f"-I{include}",
        f"-I{cutt}/include",
        f"-L{lib}",
        f"{cutt}/include/cutt.cu",
        "-o",
        f"{cutt}/lib/libcutt.so",
    ]
    result = children.run_tool(command, stdout=children.PIPE, stderr=children.STDOUT)
    if result.returncode:
        lines = [line for line in result.stdout.decode("utf-8", "replace").splitlines() if line.strip()] or [
            "no message"
        ]
        wrong = next((line for line in lines if "error" in line or "fatal" in line), lines[-1])
        raise JvanError(f"{toolkit.nvcc} does not compile: {wrong.strip()[-300:]}")


def _targets(toolkit: Toolkit, archs: list[int]) -> list[str]:
    """Code for each GPU, and for whatever is newer; without a GPU in sight, for every generation."""
    if not archs:
        return ["-arch=all-major"]
    known = sorted({min(arch, of.newest_arch(toolkit)) for arch in archs})
    codes = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in known]
    return [*codes, f"-gencode=arch=compute_{known[-1]},code=compute_{known[-1]}"]


def _copy(name: str, include: str) -> None:
    with open(os.path.join(HERE, "shim", name), encoding="utf-8") as file:
        _replace(os.path.join(include, name), file.read())


def _replace(path: str, text: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)  # a link, behind which lies NVIDIA's own file
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
