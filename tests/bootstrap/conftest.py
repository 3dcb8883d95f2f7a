"""A machine with nothing on it, and one with oneDNN's wheel."""

from __future__ import annotations

import os
import sys

import pytest

from jvan import _boot_common, _boot_cuda

from .machines import bare_path, fake_wheel


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A machine with an empty home, an empty PATH and nothing set."""
    folder = tmp_path / "home"
    folder.mkdir()
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(os, "environ", {"HOME": str(folder), "PATH": str(tmp_path / "bin")})
    monkeypatch.setattr(_boot_common, "_chosen", {})
    monkeypatch.setattr(_boot_cuda, "USUAL_NVCC", ())
    return folder


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
