"""An nvcc that breaks Jittor's import is switched off, a whole one left on."""

# ruff: noqa: SIM112  (Jittor's variables are lower case)

from __future__ import annotations

import os

import pytest

from jvan import _boot_cuda
from jvan._boot_common import MENDED, OK, SLOW

from .machines import fake_toolkit, write


def put_on_path(nvcc):
    os.environ["PATH"] = str(nvcc.parent)


def test_whole_nvcc_is_left_on(home):
    put_on_path(fake_toolkit(home / "cuda"))
    assert _boot_cuda.check_cuda().status == OK
    assert "nvcc_path" not in os.environ


@pytest.mark.parametrize("library", [None, "dangling", "libcudart.so.13.0.96"])
def test_nvcc_that_breaks_the_import_is_switched_off(home, library):
    nvcc = fake_toolkit(home / "cuda", None if library == "dangling" else library)
    if library == "dangling":
        (home / "cuda" / "lib64").mkdir()
        (home / "cuda" / "lib64" / "libcudart.so").symlink_to("gone")
    put_on_path(nvcc)
    finding = _boot_cuda.check_cuda()
    assert finding.status == MENDED and finding.fix and str(nvcc) in finding.what
    assert os.environ["nvcc_path"] == ""


def test_link_to_nvcc_is_followed_and_wrapper_is_not(home):
    real = fake_toolkit(home / "cuda", "libcudart.so.12")
    link = home / "links" / "nvcc"
    link.parent.mkdir()
    link.symlink_to(real)
    put_on_path(link)
    assert _boot_cuda.check_cuda().status == OK
    put_on_path(write(home / "wrapper" / "bin" / "nvcc", f'#!/bin/sh\nexec {real} "$@"\n', 0o755))
    assert _boot_cuda.check_cuda().status == MENDED and os.environ["nvcc_path"] == ""


def test_packaged_nvcc_has_its_library_elsewhere():
    assert _boot_cuda.cudart("/usr/bin/nvcc") == "/usr/lib/x86_64-linux-gnu/libcudart.so"


def test_whole_toolkit_behind_a_broken_one_is_taken(home, monkeypatch):
    put_on_path(fake_toolkit(home / "compiler-only", None))
    whole = fake_toolkit(home / "cuda")
    monkeypatch.setattr(_boot_cuda, "USUAL_NVCC", (str(home / "absent" / "nvcc"), str(whole)))
    assert _boot_cuda.check_cuda().status == MENDED
    assert os.environ["nvcc_path"] == str(whole)


@pytest.mark.parametrize("driver", [True, False])
def test_toolkit_without_driver_is_switched_off_before_the_import(home, monkeypatch, driver):
    put_on_path(fake_toolkit(home / "cuda"))
    monkeypatch.setattr(_boot_cuda, "has_driver", lambda: driver)
    _boot_cuda.check_cuda(ask_driver=True)
    assert os.environ.get("nvcc_path") == (None if driver else "")


def test_driver_without_toolkit_downloads_nothing(home):
    put_on_path(write(home / "bin" / "nvidia-smi", "", 0o755))
    finding = _boot_cuda.check_cuda()
    assert (finding.status, os.environ["nvcc_path"]) == (SLOW, "") and "install_cuda" in finding.fix
    fake_toolkit(home / ".cache" / "jittor" / "jtcuda" / "cuda12.2_cudnn8_linux")
    assert _boot_cuda.check_cuda().status == OK, "Jittor's own toolkit, once downloaded, is used"
