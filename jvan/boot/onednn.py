"""oneDNN where Jittor looks for it, from the wheel that setup.py requires."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import struct
import sys

from .cache import make
from .settings import (
    BROKEN,
    MENDED,
    OK,
    SLOW,
    Finding,
    jittor_cache,
    locked,
    set_by_user,
    set_default,
    setting,
    unset_default,
)
from .shell import BARE

WHEEL = "onednn-devel-cpu-gomp==2022.2.1"
# Jittor's own archives; it unpacks one of them into <cache>/mkl and then looks for nothing else.
PLACES = {
    ("Linux", "x86_64"): ("dnnl_lnx_2.2.0_cpu_gomp", "lib/libmkldnn.so"),
    ("Linux", "aarch64"): ("dnnl_lnx_2.2.0_cpu_gomp_aarch64", "lib/libmkldnn.so"),
    ("Darwin", "arm64"): ("dnnl_mac_2.2.0_cpu_omp_arm64", "lib/libmkldnn.dylib"),
    ("Darwin", "x86_64"): ("dnnl_mac_2.2.0_cpu_omp_x86_64", "lib/libmkldnn.dylib"),
    ("Windows", "AMD64"): ("dnnl_win_2.2.0_cpu_vcomp", "bin/dnnl.dll"),
}
SONAME = "libdnnl.so.2"  # the 2.x interface, which Jittor's operators are written for; 3.x does not fit
NOBITS = 8  # an ELF section that takes no room in the file
COST = "Jittor's own convolutions and matrix products run some 40 times slower (jvan's kernels do without)"


def check_onednn() -> Finding:
    """Leave a working oneDNN alone, put the wheel's where Jittor looks, or switch it off and say what that costs."""
    if set_by_user("use_mkl") and setting("use_mkl") != "1":
        return Finding("oneDNN", SLOW, f"switched off by use_mkl={setting('use_mkl')}: {COST}", "unset use_mkl")
    if "mkl_include_path" in os.environ and "mkl_lib_path" in os.environ:
        what = "mkl_include_path and mkl_lib_path are set, which make Jittor's import fail with an undefined name"
        return Finding("oneDNN", BROKEN, what, "unset mkl_include_path mkl_lib_path")
    place = onednn_place()
    if place is not None and works(place):
        unset_default("use_mkl")
        return Finding("oneDNN", OK, f"found at {place}")
    source = find_wheel() if _wheel_fits() else None
    if source is None and set_by_user("use_mkl") and BARE.search(jittor_cache()):  # os.system("cd …"), without quotes
        what = f"left to Jittor's own download, as use_mkl=1 asks, which does not work in {jittor_cache()!r}"
        return Finding("oneDNN", BROKEN, what, "unset use_mkl, or set HOME to a plain folder")
    if source is None and set_by_user("use_mkl"):
        return Finding("oneDNN", OK, "left to Jittor's own download, as use_mkl=1 asks")
    if source is None:
        return _without()
    try:
        put(source, place)
    except OSError as error:
        what = f"cannot be linked to {place} ({error.strerror or error})"
        return Finding("oneDNN", BROKEN, what, "make that folder writable, or set HOME to a folder that is")
    unset_default("use_mkl")
    return Finding("oneDNN", MENDED, f"linked {source[1]} to where Jittor looks, {place}")


def onednn_place() -> str | None:
    """The folder in which Jittor looks for oneDNN; None on a platform that it has no oneDNN for."""
    row = PLACES.get((platform.system(), platform.machine()))
    return os.path.join(jittor_cache(), "mkl", row[0]) if row else None


def works(place: str) -> bool:
    """Whether headers and a whole library are there: not dangling links, not half an archive."""
    headers = ("include/dnnl.hpp", "include/oneapi/dnnl/dnnl.hpp")
    if not all(os.path.isfile(os.path.join(place, name)) for name in headers):
        return False
    if platform.system() != "Linux":
        return os.path.isfile(os.path.join(place, PLACES[platform.system(), platform.machine()][1]))
    return all(is_whole_library(os.path.join(place, "lib", name)) for name in ("libmkldnn.so", SONAME))


def is_whole_library(path: str) -> bool:
    """Whether an ELF file is as long as its section table says, table included."""
    try:
        with open(path, "rb") as file:
            header, size = file.read(64), os.fstat(file.fileno()).st_size
            if header[:6] != b"\x7fELF\x02\x01" or len(header) < 64:
                return False
            (start,), (entry, count) = struct.unpack_from("<Q", header, 40), struct.unpack_from("<HH", header, 58)
            if entry != 64 or count == 0 or start + 64 * count > size:
                return False
            file.seek(start)
            table = file.read(64 * count)
    except OSError:
        return False
    return all(end <= size for end in _section_ends(table))


def _section_ends(table: bytes):
    for at in range(0, len(table), 64):
        (kind,), (offset, length) = struct.unpack_from("<I", table, at + 4), struct.unpack_from("<QQ", table, at + 24)
        yield offset if kind == NOBITS else offset + length


def find_wheel() -> tuple[str, str] | None:
    """(include folder, library) of an installed oneDNN 2.x; its package's list of files says where, else the prefix."""
    from importlib.metadata import distributions  # 25 ms, so only when something must be mended

    headers, libraries = [], []
    for name in ("onednn-devel-cpu-gomp", "onednn-cpu-gomp"):
        for package in distributions(name=name):
            root = os.path.abspath(package.locate_file(""))
            for file in _files(package):
                path = os.path.normpath(package.locate_file(file))
                if file.name == SONAME:
                    libraries.append(path)
                elif str(file).endswith("include/oneapi/dnnl/dnnl.hpp"):
                    headers.append(path)
            # `pip install --target DIR` moves the files to DIR/lib and DIR/include and leaves the list as it was
            libraries.append(os.path.join(root, "lib", SONAME))
            headers.append(os.path.join(root, "include", "oneapi", "dnnl", "dnnl.hpp"))
    for prefix in (sys.prefix, sys.base_prefix):  # conda's own package has no list that Python knows
        libraries.append(os.path.join(prefix, "lib", SONAME))
        headers.append(os.path.join(prefix, "include", "oneapi", "dnnl", "dnnl.hpp"))
    header = next(filter(os.path.isfile, headers), None)
    library = next(filter(is_whole_library, libraries), None)
    return (header.rsplit(os.sep, 3)[0], library) if header and library else None


def _files(package) -> list:
    with contextlib.suppress(OSError, ValueError):  # a damaged list is no reason for `import jvan` to fail
        return package.files or []
    return []


def put(source: tuple[str, str], place: str) -> None:
    """Put headers and library into `place`, whole or not at all, instead of anything broken there.

    Files are hard links, or copies where the file system has none: symbolic links into a virtual
    environment would dangle as soon as it is deleted, and break `import jittor` for every other one.
    """
    import tempfile

    mkl = os.path.dirname(place)
    make(mkl)
    with locked(os.path.join(mkl, ".jvan-lock")):
        if works(place):  # another process was quicker
            return
        # Jittor takes the first folder of mkl/ whose name begins with "dnnl": these must not
        scratch = tempfile.mkdtemp(prefix=".jvan-", dir=mkl)
        try:
            _fill(source, os.path.join(scratch, "new"))
            if os.path.lexists(place):
                os.rename(place, os.path.join(scratch, "old"))
            os.rename(os.path.join(scratch, "new"), place)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _fill(source: tuple[str, str], folder: str) -> None:
    include, library = source
    os.makedirs(os.path.join(folder, "lib"))
    os.makedirs(os.path.join(folder, "include"))
    # only oneDNN's headers: a prefix's include folder may hold anything, and would come first on the compiler's path
    shutil.copytree(os.path.join(include, "oneapi"), os.path.join(folder, "include", "oneapi"), copy_function=_link)
    for name in os.listdir(include):
        if name.startswith("dnnl") and name.endswith((".h", ".hpp")):
            _link(os.path.join(include, name), os.path.join(folder, "include", name))
    _link(library, os.path.join(folder, "lib", SONAME))
    for name in ("libdnnl.so", "libmkldnn.so"):
        os.symlink(SONAME, os.path.join(folder, "lib", name))


def _link(source: str, target: str) -> None:
    real = os.path.realpath(source)
    try:
        if hasattr(os, "getuid") and os.stat(real).st_uid not in (0, os.getuid()):
            shutil.copy(real, target)  # a link would keep its owner, whom `check_rights` would not trust
        else:
            os.link(real, target)
    except OSError:
        shutil.copy(real, target)


def _wheel_fits() -> bool:
    return (platform.system(), platform.machine()) == ("Linux", "x86_64")


def _without() -> Finding:
    if _wheel_fits():
        fix = f"pip install {WHEEL} (pip's --target leaves its library out)"
    elif onednn_place() is not None:
        fix = 'use_mkl=1 python -c "import jittor" lets Jittor download its own, once'
    else:
        fix = "none known: Jittor has no oneDNN for this platform"
    set_default("use_mkl", "0")  # otherwise Jittor tries to download its own, and fails to import where it cannot
    return Finding("oneDNN", SLOW, f"not found, so Jittor runs without it: {COST}", fix, aloud=True)
