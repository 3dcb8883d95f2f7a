"""Fixtures of the tests that run CUDA kernels on the host; the folders' conftest.py take them from here."""

import functools
import os
import shutil

import numpy as np
import pytest

from tools.cuda_emulator.emulator import Emulator, build


@pytest.fixture(scope="session")
def emulator(tmp_path_factory):
    """All CUDA kernels, compiled for the host: once for all tests."""
    if not shutil.which("g++"):
        pytest.skip("no g++")
    return _compiled(tmp_path_factory.getbasetemp() / "cuda_kernels")


@functools.cache
def _compiled(folder):
    """Two folders of tests have the fixture, each its own."""
    folder.mkdir()
    return Emulator(build(folder))


@pytest.fixture
def out(emulator, tmp_path, monkeypatch):
    """A folder with the emulator's library in it; children find jvan."""
    shutil.copy(emulator.path, tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


@pytest.fixture
def run(emulator):
    """Runs an operator on the host, twice: a barrier that is missing shows as a result that depends on which thread goes first."""

    def run_both_ways(*call):
        emulator.set(backwards=True)
        last_first = emulator.run(*call)
        emulator.set(backwards=False)
        outputs = emulator.run(*call)
        for ours, others in zip(outputs, last_first):
            np.testing.assert_array_equal(ours.view(np.uint8), others.view(np.uint8), "depends on the order of threads")
        return outputs

    return run_both_ways
