"""What `import jvan` sets before Jittor is imported, and where Jittor's home is."""

# ruff: noqa: SIM112  (Jittor's variables are lower case)

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from jvan.boot import cache as boot_cache
from jvan.boot import cuda as boot_cuda
from jvan.boot import prepare as boot_prepare
from jvan.boot import python as boot_python
from jvan.boot import settings as boot_settings
from jvan.boot.settings import BROKEN, OK

from .machines import fake_toolkit, python, write


@pytest.mark.parametrize("config", [None, "{}", "elsewhere"])
@pytest.mark.parametrize("variable", [None, "chosen"])
def test_home_is_read_as_jittor_reads_it(home, tmp_path, config, variable):
    if config:
        text = json.dumps({"JITTOR_HOME": str(tmp_path / config)}) if config != "{}" else config
        write(home / ".cache" / "jittor" / "config.json", text)
    if variable:
        os.environ["JITTOR_HOME"] = str(tmp_path / variable)
    before = sorted(home.rglob("*"))
    mine = boot_settings.jittor_cache()
    assert sorted(home.rglob("*")) == before, "looking must not write"
    source = pathlib.Path(boot_settings.package_folder("jittor_utils"), "__init__.py").read_text()
    # only Jittor's own function: its module starts compilers
    start, end = source.index("_jittor_home = None"), source.index("class Logwrapper")
    code = "import os, json\nfrom pathlib import Path\n" + source[start:end] + "\nprint(home())"
    jittors = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert mine == os.path.join(jittors.stdout.strip(), ".cache", "jittor")


@pytest.mark.parametrize("text", ["{", "[]", '{"JITTOR_HOME": 1}'])
def test_damaged_config_is_told_and_stops_nothing(home, text):
    path = write(home / ".cache" / "jittor" / "config.json", text)
    assert boot_settings.jittor_cache() == str(home / ".cache" / "jittor")
    finding = boot_cache.check_cache()
    assert finding.status == BROKEN and str(path) in finding.what and finding.fix == f"rm {path}"


def test_what_the_user_set_is_kept_even_if_empty(home):
    os.environ.update(FIX_TORCH_ERROR="1", nvcc_path="", python_config_path="")
    nvcc = fake_toolkit(home / "cuda")
    os.environ["PATH"] = str(nvcc.parent)
    for check in (boot_prepare.check_torch, boot_cuda.check_cuda, boot_python.check_python_config):
        assert check().status == OK
    assert [os.environ[name] for name in ("FIX_TORCH_ERROR", "nvcc_path", "python_config_path")] == ["1", "", ""]


def test_choose_and_leave(home):
    assert boot_settings.set_default("a", "1") and boot_settings.set_default("a", "2") and os.environ["a"] == "2"
    assert not boot_settings.set_by_user("a")
    boot_settings.unset_default("a")
    assert "a" not in os.environ
    os.environ["a"] = "mine"
    assert not boot_settings.set_default("a", "3")
    boot_settings.unset_default("a")
    assert os.environ["a"] == "mine"


def test_import_is_light_and_sets_what_children_need(tmp_path):
    heavy = "sorted({'numpy', 'jittor', 'jittor_utils', 'ssl', 'importlib.metadata'} & set(sys.modules))"
    code = f"import sys, os, jvan; print({heavy}); print(os.environ['FIX_TORCH_ERROR'])"
    result = python(code, HOME=str(tmp_path))
    assert (result.stdout, result.stderr) == ("[]\n0\n", "")


def test_prepare_is_done_once(monkeypatch):
    assert boot_prepare.prepare() is boot_prepare.prepare()
    assert {finding.name for finding in boot_prepare.prepare()} == {"torch", "python-config", "CUDA", "oneDNN"}
