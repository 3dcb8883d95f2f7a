"""Paths that Jittor puts into shell command lines: what a shell would run is refused before Jittor starts.

Jittor writes most of them between double quotes, so blanks, ', ; and & are harmless there. A few stand without quotes.
"""

from __future__ import annotations

import os
import re
import shutil
import sys

from .settings import BROKEN, OK, Finding, jittor_cache, package_folder, set_default, setting

QUOTED = re.compile(r'[$`"\\\n\r]')  # what a shell reads between double quotes, and what ends a line of it or of C++
BARE = re.compile(r"""[\s$`"'\\;&|<>()*?\[\]{}#~!]""")  # what it reads without them
VARIABLES = ("cc_path", "nvcc_path", "gdb_path", "mpicc_path", "cutt_include_path", "cutt_lib_path", "cache_name")
FIX = 'choose a name without $, `, ", \\ and line breaks'


def check_paths() -> Finding:
    """Refuse paths of the cache, of packages, of Python and of Jittor's settings that a shell would not take literally."""
    if os.name == "nt":
        return Finding("paths", OK, "Jittor calls no POSIX shell here")
    for what, path in _paths():
        if path and QUOTED.search(path):
            return refused(what, path)
    if BARE.search(jittor_cache()):
        set_default("use_nccl", "0")  # its archive's path stands without quotes, and jvan has no use for it
    mpicc = shutil.which(setting("mpicc_path") or "mpicc")
    if mpicc and BARE.search(mpicc):
        set_default("use_mpi", "0")  # Jittor's import would fail
    return Finding("paths", OK, "none holds what a shell would run")


def refused(what: str, path: str) -> Finding:
    """The finding for a path that a shell would not take literally; a line whatever the path holds."""
    found = QUOTED.search(path)[0]
    return Finding("paths", BROKEN, f"{what} is {path!r}, and Jittor hands it to a shell, which reads {found!r}", FIX)


def _paths():
    """(what it is, path)."""
    yield "the cache (HOME or JITTOR_HOME)", jittor_cache()
    for name in ("jittor", "jittor_utils", "jvan"):
        yield f"the folder of {name}", package_folder(name)
    yield "this Python", sys.executable
    for name in ("prefix", "base_prefix", "exec_prefix"):
        yield f"Python's {name}", getattr(sys, name)
    for name in VARIABLES:
        yield name, setting(name)
