"""Jittor gets a python-config of its own interpreter."""

# ruff: noqa: SIM112  (Jittor's variables are lower case)

from __future__ import annotations

import builtins
import os
import pathlib
import platform
import subprocess
import sys
import sysconfig
import types

import pytest

from jvan.boot import python as boot_python
from jvan.boot import settings as boot_settings
from jvan.boot.settings import BROKEN, MENDED, OK

from .machines import write


@pytest.fixture
def interpreter(tmp_path, monkeypatch):
    """A virtual environment's interpreter whose base lies elsewhere; the base's folder."""
    base = tmp_path / "base"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    monkeypatch.setattr(sys, "base_prefix", str(base))
    real = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: not str(path).startswith("/usr/") and real(path))
    return base


@pytest.mark.parametrize("chosen", [None, "", "absent", "present"])
def test_search_is_jittors(home, tmp_path, chosen):
    present = write(tmp_path / "present", "")
    if chosen is not None:
        os.environ["python_config_path"] = chosen and str(tmp_path / chosen)
    source = pathlib.Path(boot_settings.package_folder("jittor_utils"), "__init__.py").read_text()
    # only Jittor's own function: its module starts compilers
    function = source[source.index("def get_py3_config_path") : source.index("def get_py3_include_path")]
    scope = {"os": os, "sys": sys, "platform": platform, "_py3_config_path": None, "__builtins__": builtins}
    code = compile(function, "jittor_utils", "exec")
    types.FunctionType(code, scope)()
    try:
        expected = scope["get_py3_config_path"]()
    except RuntimeError:
        expected = None
    assert boot_python.jittors_python_config() == expected
    assert (expected == str(present)) == (chosen == "present")


def test_base_interpreters_config_is_named(home, interpreter):
    config = write(interpreter / "bin" / f"python{boot_python.VERSION}-config", "#!/bin/sh\n", 0o755)
    assert boot_python.check_python_config().status == MENDED
    assert os.environ["python_config_path"] == str(config)


def test_config_that_jittor_finds_is_left_alone(home, interpreter, monkeypatch):
    config = write(interpreter / "bin" / f"python{boot_python.VERSION}-config", "#!/bin/sh\n", 0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter / "bin" / "python"))
    finding = boot_python.check_python_config()
    assert (finding.status, finding.what) == (OK, str(config)) and "python_config_path" not in os.environ


def test_another_pythons_config_is_passed_over(home, interpreter, tmp_path):
    """As Jittor's fallback to /usr/bin, whose headers are not this interpreter's."""
    name = f"python{boot_python.VERSION}-config"
    other = write(tmp_path / "venv" / "bin" / name, "#!/bin/sh\n", 0o755)
    config = write(interpreter / "bin" / name, "#!/bin/sh\n", 0o755)
    assert boot_python.jittors_python_config() == str(other)
    assert boot_python.check_python_config().status == MENDED
    assert os.environ["python_config_path"] == str(config)


@pytest.mark.parametrize("base", ["without", "with a space"])
def test_config_is_written_where_there_is_none(home, interpreter, monkeypatch, base):
    headers = write(interpreter / base / "include" / "Python.h").parent
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(headers))
    if base == "with a space":  # Jittor would hand it to a shell unquoted
        monkeypatch.setattr(sys, "base_prefix", str(interpreter / base))
        write(interpreter / base / "bin" / f"python{boot_python.VERSION}-config", "", 0o755)
    assert boot_python.check_python_config().status == MENDED
    script = os.environ["python_config_path"]
    assert script.startswith(str(home / ".cache" / "jittor"))
    assert boot_python.write_python_config() == script, "the next process uses the same one"

    def ask(option):  # through a shell, as Jittor does
        return subprocess.run(
            f"{script} {option}", shell=True, capture_output=True, text=True, check=True
        ).stdout.strip()

    quoted = f'-I"{headers}"' if base == "with a space" else f"-I{headers}"
    assert ask("--includes") == quoted
    assert ask("--extension-suffix") == sysconfig.get_config_var("EXT_SUFFIX")


def test_missing_headers_are_told(home, interpreter, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(interpreter / "include"))
    config, headers = boot_python.check_python_config(), boot_python.check_headers()
    assert config.status == headers.status == BROKEN
    assert headers.what == f"no Python.h for {sys.executable}, and Jittor compiles against it"
    assert f"apt-get install python{boot_python.VERSION}-dev" in headers.fix
    write(interpreter / "include" / "Python.h")
    assert boot_python.check_headers().status == OK
