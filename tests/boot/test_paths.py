"""Names of folders that a shell would run: refused before Jittor hands them to one. Harmless ones go on working."""

# ruff: noqa: SIM112  (Jittor's variables are lower case)

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from jvan.boot import onednn as boot_onednn
from jvan.boot import python as boot_python
from jvan.boot import shell as boot_shell
from jvan.boot.settings import BROKEN, OK

from .machines import fake_jittor, python, write

pytestmark = pytest.mark.skipif(os.name == "nt", reason="is about POSIX shells")

# What Jittor does with its cache: the path between double quotes, in a line for a shell.
SHELL = """
import os, subprocess
import jittor_utils
folder = os.path.join(os.environ.get("JITTOR_HOME", os.environ["HOME"]), ".cache", "jittor")
print(subprocess.run(f'ls -d "{folder}"; echo "{jittor_utils.cache_path}"', shell=True, capture_output=True, text=True).stdout)
"""
FOLDERS = ("h$(touch ran)", 'h";touch ran;"', "h`touch ran`\ntouch ran\n")
HARMLESS = "a b'c;touch ran&d|e (f) * ? [g] {h} #i ~ ! 中文"


@pytest.fixture
def start(tmp_path):
    """A function that imports jvan, then a stand-in for Jittor that does with its cache what Jittor does."""
    site = fake_jittor(tmp_path / "site", SHELL)
    (tmp_path / "user").mkdir()

    def started(code="import jvan\nimport jittor", **environment):
        return python(code, site, **{"HOME": str(tmp_path / "user"), **environment})

    return started


@pytest.mark.parametrize("variable", ["HOME", "JITTOR_HOME"])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_command_in_the_caches_name_is_not_run(start, tmp_path, name, variable):
    folder = tmp_path / name
    folder.mkdir()
    code = "import os\nos.chdir(os.environ['HERE'])\nimport jvan\ntry:\n    import jittor\nexcept ImportError as error:\n    print(error)"
    done = start(code, HERE=str(tmp_path), **{variable: str(folder)})
    assert not (tmp_path / "ran").exists() and (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("Jittor cannot start: paths: the cache (HOME or JITTOR_HOME) is ")
    assert repr(str(folder))[1:-1] in line and line.endswith(boot_shell.FIX)


@pytest.mark.parametrize("character", ["$", "`", '"', "\\", "\n", "\r"])
def test_each_character(home, character):
    os.environ["HOME"] = f"/h{character}x"
    found = boot_shell.check_paths()
    assert found.status == BROKEN and repr(character) in found.what and "\n" not in found.what


@pytest.mark.parametrize("variable", ["HOME", "JITTOR_HOME"])
def test_harmless_names_go_on_working(start, tmp_path, variable):
    (tmp_path / HARMLESS).mkdir()
    done = start(**{variable: str(tmp_path / HARMLESS)})
    assert done.returncode == 0 and f"{tmp_path / HARMLESS}/.cache/jittor\n" in done.stdout, done.stderr


def test_the_branch_in_the_caches_name(start, tmp_path):
    """Jittor names its cache after the branch of a repository that it lies in."""
    utils = tmp_path / "site" / "jittor_utils" / "__init__.py"
    utils.write_text(utils.read_text() + f"cache_path = {str(tmp_path)!r} + '/core/x$(touch$IFS' + 'ran)'\n")
    done = start()
    assert done.returncode == 1 and done.stdout == "" and not (tmp_path / "ran").exists()
    line = done.stderr.splitlines()[-1]
    assert line.startswith("jvan.errors.JittorUnavailable: Jittor cannot start: paths: the cache is "), line


@pytest.mark.parametrize("name", ["cc_path", "nvcc_path", "gdb_path", "mpicc_path", "cutt_lib_path"])
def test_settings_that_are_paths(home, name):
    os.environ[name] = "/opt/$(reboot)/bin/tool"
    found = boot_shell.check_paths()
    assert found.status == BROKEN and found.what.startswith(f"{name} is '/opt/$(reboot)/bin/tool'")
    os.environ[name] = "/opt/a b;c'd&e/中/tool"
    assert boot_shell.check_paths().status == OK


@pytest.mark.parametrize("name", ["prefix", "base_prefix", "exec_prefix", "executable"])
def test_python_itself(home, monkeypatch, name):
    monkeypatch.setattr(sys, name, "/opt/`reboot`")
    assert boot_shell.check_paths().status == BROKEN


def test_packages(home, tmp_path, monkeypatch):
    site = fake_jittor(tmp_path / "$x")
    monkeypatch.setattr(sys, "path", [str(site)])
    for name in ("jittor", "jittor_utils"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = boot_shell.check_paths()
    assert found.status == BROKEN and found.what.startswith("the folder of jittor is ")


def test_what_stands_without_quotes_is_switched_off(home, tmp_path):
    assert boot_shell.check_paths().status == OK
    assert not {"use_nccl", "use_mpi"} & set(os.environ)
    os.environ.update(HOME=str(tmp_path / "a;b"), PATH=str(tmp_path / "c;d"))
    write(tmp_path / "c;d" / "mpicc", "#!/bin/sh\n", 0o755)
    assert boot_shell.check_paths().status == OK
    assert os.environ["use_nccl"] == os.environ["use_mpi"] == "0"


def test_a_python_config_that_a_shell_would_take_apart(home, tmp_path):
    os.environ["python_config_path"] = str(write(tmp_path / "a;b" / "python3-config", "#!/bin/sh\n", 0o755))
    found = boot_python.check_python_config()
    assert found.status == BROKEN and "a;b" in found.what
    os.environ["python_config_path"] = str(write(tmp_path / "中" / "python3-config", "#!/bin/sh\n", 0o755))
    assert boot_python.check_python_config().status == OK


def test_jittors_own_download_of_onednn(home, tmp_path, monkeypatch):
    """It changes into its folder by a shell, without quotes."""
    monkeypatch.setattr(boot_onednn, "find_wheel", lambda: None)
    os.environ["use_mkl"] = "1"
    assert boot_onednn.check_onednn().status == OK
    os.environ["HOME"] = str(tmp_path / "a;b")
    assert boot_onednn.check_onednn().status == BROKEN


def test_doctor_and_commands_say_it_in_one_line(start, tmp_path):
    home = tmp_path / "h$(touch ran)"
    home.mkdir()
    done = start("import sys\nfrom jvan.doctor import main\nsys.exit(main(['--json']))", HOME=str(home))
    rows = {row["name"]: row for row in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1 and rows["paths"]["status"] == "broken" and "start" not in rows
    command = [sys.executable, "-m", "jvan.predict", os.devnull]
    done = subprocess.run(
        command, env={**os.environ, "HOME": str(home), "use_mkl": "0"}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "paths: the cache" in done.stderr, (
        done.stderr
    )
    assert not (tmp_path / "ran").exists()
