"""Carried wheels: unpacked once, and found by a step before what is installed."""

import os
import subprocess
import sys
import zipfile

import pytest

from jvan.boot import settings as boot_settings
from jvan.errors import JvanError
from tools.gpu_check import gpu_check
from tools.gpu_check import wheels as gpu_wheels


@pytest.fixture
def carry(tmp_path, monkeypatch):
    """A function: versions of numpy -> a folder with a wheel of each, which holds nothing but its version. The cache is empty."""
    monkeypatch.setenv("JVAN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "wheels"
    folder.mkdir()

    def carried(*versions):
        for version in versions:
            info = f"numpy-{version}.dist-info"
            with zipfile.ZipFile(folder / f"numpy-{version}-py3-none-any.whl", "w") as wheel:
                wheel.writestr("numpy/__init__.py", f"__version__ = {version!r}\n")
                wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: numpy\nVersion: {version}\n")
                wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
                wheel.writestr(f"{info}/RECORD", "")
        return folder

    return carried


def seen(site):
    """The version of the numpy that a process finds."""
    command = [sys.executable, "-c", "import numpy; print(numpy.__version__)"]
    return subprocess.run(
        command, env=gpu_wheels.environment(site), capture_output=True, text=True, check=True
    ).stdout.strip()


def test_carried_packages_come_first(carry, tmp_path):
    installed = seen(None)
    assert installed != "1.99.0"
    site = gpu_wheels.install(carry("1.99.0"))
    assert seen(site) == "1.99.0" and seen(None) == installed
    assert site.parent == tmp_path / "cache"
    (site / "kept").touch()
    assert gpu_wheels.install(carry()) == site and (site / "kept").exists(), "made once"
    assert [path.name for path in site.parent.iterdir()] == [site.name]


def test_packages_that_others_can_change_are_not_run(carry, tmp_path):
    site = gpu_wheels.install(carry("1.99.0"))
    assert site.stat().st_mode & 0o777 == 0o700
    for folder in (site, site.parent):
        before = folder.stat().st_mode
        folder.chmod(0o777)
        with pytest.raises(JvanError, match="others can write there"):
            gpu_wheels.install(carry())
        folder.chmod(before)
    assert gpu_wheels.install(carry()) == site


def test_what_cannot_be_installed_is_one_line(carry, tmp_path, capsys):
    with pytest.raises(JvanError, match=r"pip cannot install these wheels: ERROR: .*numpy"):
        gpu_wheels.install(carry("1.98.0", "1.99.0"))
    assert list((tmp_path / "cache").glob("*")) == []
    (tmp_path / "none").mkdir()
    assert gpu_check.main(["--out", str(tmp_path / "out"), "--wheels", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == f"jvan gpu-check: {tmp_path / 'none'}: no wheels (*.whl) in there\n"


def test_a_step_chooses_its_settings_itself(monkeypatch, tmp_path):
    """What `import jvan` chose here is not handed on as the user's choice; what the user set is."""
    monkeypatch.setattr(boot_settings, "_defaults", {"use_mkl": "0", "nvcc_path": ""})
    monkeypatch.setenv("use_mkl", "0")
    monkeypatch.setenv("nvcc_path", "/usr/bin/nvcc")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    variables = gpu_wheels.environment(tmp_path)
    assert "use_mkl" not in variables and variables["nvcc_path"] == "/usr/bin/nvcc"
    assert variables["PYTHONPATH"] == f"{tmp_path}{os.pathsep}/mine"
