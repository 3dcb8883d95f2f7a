"""`python build.py SITE DEST`: NVIDIA's wheels of CUDA 13 in SITE once more in DEST, with libraries that need no GPU.

DEST is then a folder for sys.path, DEST/driver one for LD_LIBRARY_PATH. Headers and compiler are the real ones, as hard
links; each library exports what the real one does. runtime.cc and driver.cc say what they do instead.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FAKED = re.compile(r"lib(cudart|cublas|cublasLt|curand|cufft|cusparse|nvJitLink)\.so\.\d+")


def build(site: str, dest: str) -> None:
    """Fill `dest`, which must not exist."""
    cuda = os.path.join(dest, "nvidia", "cu13")
    shutil.copytree(
        os.path.join(site, "nvidia", "cu13"),
        cuda,
        copy_function=_link,
        ignore=lambda _, names: list(filter(FAKED.fullmatch, names)),
    )
    real = os.path.join(site, "nvidia", "cu13", "lib")
    for name in sorted(filter(FAKED.fullmatch, os.listdir(real))):
        source = os.path.join(HERE, "runtime.cc") if name.startswith("libcudart.") else None
        imitate(os.path.join(real, name), os.path.join(cuda, "lib", name), source, os.path.join(cuda, "include"))
    driver = os.path.join(dest, "driver")
    os.mkdir(driver)
    _compile([os.path.join(HERE, "driver.cc")], os.path.join(driver, "libcuda.so.1"), "libcuda.so.1")
    os.symlink("libcuda.so.1", os.path.join(driver, "libcuda.so"))


def imitate(real: str, target: str, source: str | None, include: str) -> None:
    """A library with the name and functions of `real`: those that `source` defines, and the others returning 0."""
    own = []
    if source:
        object_file = f"{target}.o"
        subprocess.run(["g++", "-O1", "-w", "-fPIC", "-c", f"-I{include}", source, "-o", object_file], check=True)
        own = [object_file]
    defined = set(_functions(*own)) if own else set()
    stubs = "".join(
        f".globl {name}\n.type {name}, @function\n{name}:\nxorl %eax, %eax\nret\n"
        for name in sorted(set(_functions("-D", real)) - defined)
    )
    assembly = f"{target}.s"
    with open(assembly, "w") as file:
        file.write(f'.text\n{stubs}.section .note.GNU-stack, "", @progbits\n')
    _compile([assembly, *own], target, os.path.basename(target))
    for scratch in (assembly, *own):
        os.unlink(scratch)


def _functions(*arguments: str) -> list[str]:
    listing = subprocess.run(["nm", "--defined-only", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [match[1] for match in re.finditer(r"^[0-9a-f]+ [TWi] ([A-Za-z_]\w*)(?:@.*)?$", listing, re.MULTILINE)]


def _compile(sources: list[str], target: str, soname: str) -> None:
    command = ["g++", "-O1", "-w", "-fPIC", "-shared", *sources, "-o", target, f"-Wl,-soname,{soname}"]
    subprocess.run(command, check=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


if __name__ == "__main__":
    build(*sys.argv[1:])
