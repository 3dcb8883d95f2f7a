"""A machine with nothing on it, and one with oneDNN's wheel."""

from __future__ import annotations

import os
import sys

import pytest

from jvan.boot import settings as boot_settings
from jvan.boot.toolkit import driver, locate, parts

from .machines import bare_path, fake_wheel


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A machine with an empty home, an empty PATH and nothing set."""
    folder = tmp_path / "home"
    folder.mkdir()
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(os, "environ", {"HOME": str(folder), "PATH": str(tmp_path / "bin")})
    monkeypatch.setattr(boot_settings, "_defaults", {})
    monkeypatch.setattr(locate, "USUAL", ())
    monkeypatch.setattr(parts, "SYSTEM", ((), ()))
    monkeypatch.setattr(driver, "version", lambda: None)
    monkeypatch.setattr(driver, "gpus", list)
    return folder


@pytest.fixture
def gpu(home, monkeypatch):
    """The same machine with a driver and GPUs, which the function that is returned chooses: the driver's CUDA, the architectures."""
    monkeypatch.setattr(sys, "path", [*bare_path()])

    def choose(takes=(13, 0), *archs):
        monkeypatch.setattr(driver, "version", lambda: takes)
        monkeypatch.setattr(driver, "gpus", lambda: [driver.Gpu(f"GPU of sm_{arch}", arch) for arch in archs])

    choose((13, 0), 90)
    return choose


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """oneDNN's wheel in a virtual environment, and no other one in sight; the environment's folder."""
    environment = tmp_path / "venv"
    site = environment / "lib" / "python3" / "site-packages"
    fake_wheel(environment, site)
    monkeypatch.setattr(sys, "path", [str(site), *bare_path()])
    for prefix in ("prefix", "base_prefix"):
        monkeypatch.setattr(sys, prefix, str(tmp_path / "nowhere"))
    return environment
