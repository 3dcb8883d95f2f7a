"""No other way to start a child than `jvan.children`, and the path that a child is given."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from pathlib import Path

import pytest

import jvan
from jvan import children

PACKAGE = Path(jvan.__file__).parent
FAMILIES = re.compile("(exec|spawn)[lv]p?e?|posix_spawnp?")
FUNCTIONS = {
    "system", "popen", "startfile", "fork", "forkpty", "executable", "Popen", "Child", "getoutput", "getstatusoutput", "check_output", "check_call", "ProcessPoolExecutor",
    "create_subprocess_exec", "create_subprocess_shell", "subprocess_exec", "subprocess_shell", "get_context",
}  # fmt: skip
MODULES = {"subprocess", "multiprocessing", "pty", "_posixsubprocess", "concurrent.futures.process", "popen2"}
HARMLESS = "multiprocessing.connection"  # pipes
# They only read its name: checks before Jittor starts, and the benchmark, which hands it to `children.start_script`.
NAME_THE_INTERPRETER = {"boot/python.py", "boot/shell.py", "benchmarking/starting.py"}


def ways(text: str):
    """(line, what) of each way to start a process, and of each use of this interpreter's name, in a module's text."""
    for node in ast.walk(ast.parse(text)):
        for name in imported(node):
            if not name.startswith(HARMLESS) and any(name == m or name.startswith(f"{m}.") for m in MODULES):
                yield node.lineno, name
        if isinstance(node, ast.ImportFrom) and node.module in ("os", "sys", "asyncio", "concurrent.futures"):
            yield from ((node.lineno, alias.name) for alias in node.names if starts(alias.name))
        if isinstance(node, ast.Attribute) and starts(node.attr) and not is_platforms(node):
            yield node.lineno, node.attr
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and starts(node.func.id):
            yield node.lineno, node.func.id
        if isinstance(node, ast.keyword) and node.arg == "shell":
            yield node.value.lineno, "shell"


def imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return names if node.module == "multiprocessing" else [node.module, *names]
    if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
        "import_module",
        "__import__",
    ):
        return [argument.value for argument in node.args if isinstance(getattr(argument, "value", None), str)]
    return []


def starts(name: str) -> bool:
    return name in FUNCTIONS or FAMILIES.fullmatch(name) is not None


def is_platforms(node: ast.Attribute) -> bool:
    return node.attr == "system" and isinstance(node.value, ast.Name) and node.value.id == "platform"


def test_every_child_is_started_in_one_place():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name == "children.py":
            continue
        for line, what in ways(path.read_text(encoding="utf-8")):
            if what == "executable" and name in NAME_THE_INTERPRETER:
                continue
            if what == "Child" and name in ("data/pool.py", "boot/probe.py"):  # in annotations, which never run
                continue
            found.append(f"{name}:{line}: {what}")
    assert found == [], "start children by jvan.children"


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess",
        "import subprocess as sp",
        "from subprocess import run",
        "import multiprocessing",
        "from multiprocessing import Pool",
        "from multiprocessing.pool import Pool",
        "import importlib; importlib.import_module('subprocess')",
        "__import__('pty')",
        "from concurrent.futures import ProcessPoolExecutor",
        "import concurrent.futures; concurrent.futures.ProcessPoolExecutor()",
        "import os; os.system('ls')",
        "import os; os.execv(a, b)",
        "import os; os.posix_spawn(a, b, c)",
        "import os; os.fork()",
        "from os import popen",
        "import ctypes; ctypes.CDLL(None).system(b'ls')",
        "import sys; [sys.executable, '-c']",
        "from .children import Child; Child(['ls'])",
        "run_tool('ls', shell=True)",
    ],
)
def test_other_ways_are_seen(text):
    assert list(ways(text))


def test_threads_pipes_and_the_systems_name_are_not_meant():
    text = "import platform\nfrom multiprocessing.connection import Pipe\nfrom concurrent.futures import ThreadPoolExecutor\n"
    assert list(ways(text + "platform.system()\nloader.exec_module(module)")) == []


def test_the_path_of_a_child(monkeypatch, tmp_path):
    here = str(PACKAGE.parent)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/a", ".", "/b/site-packages", "./", "relative", b"bytes", Path("/p")])
    assert children.search_path() == ["/a", "/b/site-packages", "relative", here]
    assert children.search_path(beside=True) == ["/a", "/b/site-packages", "relative", here, str(tmp_path)]
    monkeypatch.setattr(sys, "path", [str(tmp_path), "/a", here])
    assert children.search_path(beside=True) == [str(tmp_path), "/a", here], "a folder that is named stays in its place"


def test_a_removed_current_folder_is_on_no_path(monkeypatch, tmp_path):
    def gone():
        raise FileNotFoundError

    monkeypatch.setattr(sys, "path", ["", "/a"])
    monkeypatch.setattr(os, "getcwd", gone)
    assert children.search_path(beside=True) == ["/a", str(PACKAGE.parent)]


SHOW = "import json, os\nprint(json.dumps([sys.path, sys.argv[1:], dict(os.environ)]))"


def test_a_child_gets_the_path_its_arguments_and_the_users_variables(monkeypatch, tmp_path):
    strange = str(tmp_path / "a b'c$d\udcff中")
    monkeypatch.setattr(sys, "path", [strange, *sys.path])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", strange, "relative"]))
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:surrogateescape")
    done = children.run_python(SHOW, "one", "", "3", first=[tmp_path], stdout=children.PIPE, check=True)
    path, arguments, environment = json.loads(done.stdout)
    assert path == [str(tmp_path), *children.search_path()] and arguments == ["one", "", "3"]
    assert environment == dict(os.environ), "nothing of ours is left for the user's own children"


def test_a_child_is_no_freer_than_its_parent(monkeypatch):
    flags = type("Flags", (), {"isolated": 1, "ignore_environment": 1, "no_user_site": 1, "no_site": 0})
    monkeypatch.setattr(sys, "flags", flags)
    command, _ = children._python("pass", [], [], False, {})
    assert command[1:5] == ["-I", "-E", "-s", "-c"]


def test_a_tool_reads_nothing_and_needs_no_shell():
    code = "import sys; print(repr(sys.stdin.read()), sys.argv[1:])"
    done = children.run_tool([sys.executable, "-c", code, "$HOME;`ls`"], stdout=children.PIPE, text=True)
    assert done.stdout == "'' ['$HOME;`ls`']\n"
