"""What Jittor needs of Python and of the machine: version, numpy, compiler, headers, python-config."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import sys

from .cache import make
from .settings import (
    BROKEN,
    MENDED,
    OK,
    Finding,
    jittor_cache,
    package_folder,
    set_by_user,
    set_default,
    setting,
    unset_default,
)
from .shell import BARE

VERSION = f"3.{sys.version_info[1]}"


def check_python() -> Finding:
    what = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    if platform.python_implementation() != "CPython" or not (3, 9) <= sys.version_info[:2] <= (3, 12):
        return Finding(
            "Python", BROKEN, f"{what}; Jittor and jvan run on CPython 3.9 to 3.12", "use Python 3.9 to 3.12"
        )
    return Finding("Python", OK, what)


def check_jittor() -> Finding:
    folder = package_folder("jittor")
    if folder is None:
        return Finding("jittor", BROKEN, "not installed", "pip install jittor==1.3.11.0")
    version = _search(os.path.join(folder, "__init__.py"), r"^__version__\s*=\s*['\"]([^'\"]+)")
    return Finding("jittor", OK, f"{version or 'version unknown'} at {folder}")


def check_numpy() -> Finding:
    """numpy 2 makes Jittor corrupt data silently: the files say which one it is, as its metadata may be stale."""
    folder, fix = package_folder("numpy"), 'pip install "numpy<2"'
    if folder is None:
        return Finding("numpy", BROKEN, "not installed", fix)
    version = numpy_version(folder)
    what = f"{version or 'version unknown'} at {folder}"
    if version and int(version.split(".")[0]) >= 2:
        return Finding("numpy", BROKEN, f"{what}, with which Jittor computes garbage", fix)
    return Finding("numpy", OK, what)


def numpy_version(folder: str) -> str | None:
    """The version of the numpy in this folder; numpy itself is not imported."""
    version = _search(os.path.join(folder, "version.py"), r"^(?:short_)?version\s*=\s*['\"](\d[^'\"]*)")
    return version or _search(os.path.join(folder, "_version.py"), r"\"version\":\s*\"(\d[^\"]*)")


def hide_unfit_cupy() -> None:
    """CuPy needs numpy 2 from its version 14 on; Jittor imports CuPy where it finds it, at every seed again, and it would break half-way."""
    folder = package_folder("cupy")
    version = folder and _search(os.path.join(folder, "_version.py"), r"^__version__\s*=\s*['\"](\d+)")
    if version and int(version) >= 14 and "cupy" not in sys.modules:
        sys.modules["cupy"] = None


def check_compiler() -> Finding:
    chosen = setting("cc_path")
    default = "clang++" if platform.system() == "Darwin" else "g++"
    if chosen is not None and not shutil.which(chosen):
        return Finding(
            "compiler", BROKEN, f"cc_path is set to {chosen!r}, which cannot be run", f"set cc_path to a {default}"
        )
    path = shutil.which(chosen or default)
    if path is None and os.name != "nt":
        fix = "apt-get install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora) or conda install gxx_linux-64"
        fix = "xcode-select --install" if default == "clang++" else fix
        return Finding("compiler", BROKEN, f"no {default} on PATH, and Jittor compiles its operators", fix)
    return Finding("compiler", OK, path or "Jittor's own")


def check_headers() -> Finding:
    """Python.h, unless Jittor will ask a python-config that the user or the system installed."""
    if jittors_python_config() and not _is_ours(jittors_python_config()):
        return Finding("headers", OK, f"as {jittors_python_config()} says")
    folder = _folder_of_headers()
    if folder is None and os.name != "nt":
        fix = f"apt-get install python{VERSION}-dev (Debian, Ubuntu) or dnf install python3-devel (Fedora)"
        return Finding("headers", BROKEN, f"no Python.h for {sys.executable}, and Jittor compiles against it", fix)
    return Finding("headers", OK, f"{folder}")


def check_python_config() -> Finding:
    """Name this interpreter's own python-config where Jittor would find none, or another Python's; else write one.

    Jittor falls back to /usr/bin, whose headers are the system's and not a pyenv's or uv's.
    """
    if os.name != "nt" and set_by_user("python_config_path") and not _shell_safe(jittors_python_config() or ""):
        what = f"Jittor would take {jittors_python_config()!r}, which a shell does not take as one word"
        return Finding("python-config", BROKEN, what, "set python_config_path to a path without such characters")
    if os.name == "nt" or set_by_user("python_config_path"):
        return Finding("python-config", OK, setting("python_config_path") or "left to Jittor")
    unset_default("python_config_path")
    found = jittors_python_config()
    if found and _belongs_to(sys.base_prefix, found) and _shell_safe(found):
        return Finding("python-config", OK, found)
    base = os.path.join(sys.base_prefix, "bin", f"python{VERSION}-config")
    if os.access(base, os.X_OK) and _shell_safe(base):
        set_default("python_config_path", base)
        return Finding(
            "python-config", MENDED, f"Jittor would take {found or 'none'}; python_config_path set to {base}"
        )
    if _folder_of_headers() is None and found and _shell_safe(found):
        return Finding("python-config", OK, f"{found}, as this Python has no headers of its own")
    if _folder_of_headers() is None:
        return Finding("python-config", BROKEN, "none, and no Python.h", f"install the headers of Python {VERSION}")
    try:
        script = write_python_config()
    except OSError as error:
        fix = "make Jittor's cache writable, or set HOME to a folder that is"
        return Finding("python-config", BROKEN, f"none, and none can be written ({error})", fix)
    if not _shell_safe(script):
        what = f"none, and one in {script!r} would not be found: a shell does not take that as one word"
        return Finding("python-config", BROKEN, what, "set HOME to a folder whose name is plain letters")
    set_default("python_config_path", script)
    return Finding("python-config", MENDED, f"Jittor would take {found or 'none'}; wrote {script}")


def _belongs_to(prefix: str, script: str) -> bool:
    return os.path.realpath(os.path.join(os.path.dirname(script), "..")) == os.path.realpath(prefix)


def _shell_safe(path: str) -> bool:
    return not BARE.search(path)  # Jittor hands it to a shell as it is


def jittors_python_config() -> str | None:
    """The python-config that Jittor would take, by its own order of search."""
    executable = sys.executable or ""
    folder = os.path.dirname(executable)
    paths = [
        setting("python_config_path", ""),
        f"{folder}/python{VERSION}-config",
        f"{executable}-config",
        f"/usr/bin/python{VERSION}-config",
        f"/usr/local/bin/python{VERSION}-config",
        f"{folder}/python3-config",
    ]
    if platform.system() == "Darwin" and "homebrew" in executable:
        paths.append(f"/opt/homebrew/bin/python{VERSION}-config")
    elif platform.system() == "Darwin":
        frameworks = "/Library/Developer/CommandLineTools/Library/Frameworks/Python3.framework/Versions"
        paths.append(f"{frameworks}/{VERSION}/lib/python{VERSION}/config-{VERSION}-darwin/python-config.py")
    return next(filter(os.path.isfile, paths), None)


def write_python_config() -> str:
    """Write a script that answers what Jittor asks, for this interpreter; its path. Two writers write the same."""
    import hashlib
    import sysconfig
    import tempfile

    folders = dict.fromkeys(sysconfig.get_path(name) for name in ("include", "platinclude"))
    includes = " ".join(f'-I"{folder}"' if re.search(r"\s", folder) else f"-I{folder}" for folder in folders)
    answers = {"--includes": includes, "--extension-suffix": sysconfig.get_config_var("EXT_SUFFIX")}
    cases = "".join(f"    {option}) cat <<'END'\n{answer}\nEND\n    ;;\n" for option, answer in answers.items())
    script = f'#!/bin/sh\n# jvan wrote this for {sys.base_prefix}\ncase "$1" in\n{cases}    *) exit 1 ;;\nesac\n'
    folder = os.path.join(jittor_cache(), "jvan")
    path = os.path.join(folder, f"python{VERSION}-config-{hashlib.sha256(script.encode()).hexdigest()[:12]}")
    if not os.access(path, os.X_OK):
        make(folder)
        handle, scratch = tempfile.mkstemp(dir=folder)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(script)
        os.chmod(scratch, 0o755)
        os.replace(scratch, path)
    return path


def _is_ours(path: str) -> bool:
    return os.path.dirname(path) == os.path.join(jittor_cache(), "jvan")


def _folder_of_headers() -> str | None:
    import sysconfig

    folders = (sysconfig.get_path(name) for name in ("platinclude", "include"))
    return next((folder for folder in folders if os.path.isfile(os.path.join(folder, "Python.h"))), None)


def _search(path: str, pattern: str) -> str | None:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        match = re.search(pattern, file.read(), re.MULTILINE)
        return match.group(1) if match else None
    return None
