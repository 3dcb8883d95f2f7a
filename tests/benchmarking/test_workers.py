"""The engines' workers themselves, on a tiny network: its outputs, and in training every gradient, are compared with jvan's.

A peer is skipped where it is not installed. JVAN_PEERS_PYTHON names another interpreter that has the peers, as the
command's `--python` does; then the plain Jittor graph's turn comes too, whose operators a minute is compiled for.
"""

import json
import os
import subprocess
import sys

import pytest

from jvan import benchmark
from jvan.benchmarking import engines
from jvan.benchmarking.machine import random_weights

from .fakes import TINY

NAMED = os.environ.get("JVAN_PEERS_PYTHON")
ONNX = ("torch", "onnx")  # what exports the network
NEEDS = {
    "torch": ("torch",),
    "torch-channels-last": ("torch",),
    "torch-compile": ("torch",),
    "onnxruntime": (*ONNX, "onnxruntime"),
    "openvino": (*ONNX, "openvino"),
    "openvino-bf16": (*ONNX, "openvino"),
}


def run(monkeypatch, capsys, *argv):
    """(exit status, the report's cases)"""
    monkeypatch.setattr(benchmark, "_networks", lambda options: {TINY: lambda: random_weights(TINY)})
    options = ["--json", "--rounds", "1", "--seconds", "0.01", "--size", "32", "--batch-size", "2"]
    status = benchmark.main([*options, *argv])
    return status, json.loads(capsys.readouterr().out)["cases"]


def is_there(*modules):
    code = "import sys\nfrom importlib.util import find_spec\nsys.exit(None in map(find_spec, sys.argv[1:]))"
    return subprocess.run([NAMED or sys.executable, "-c", code, *modules]).returncode == 0


def check(engine, status, cases):
    assert status == 0, cases
    assert [case["mode"] for case in cases] == list(engine.modes)
    for case in cases:
        ours, theirs = case["engines"]
        assert (ours["status"], theirs["engine"], theirs["status"]) == ("ok", engine.name, "ok")
        assert theirs["median_ms"] > 0 and not theirs["wrong"]
        # Of its own arithmetic, so that it is not jvan again; but the same numbers.
        assert 0 < theirs["difference"] <= theirs["tolerance"]


@pytest.mark.parametrize("name", NEEDS)
def test_a_peer(name, monkeypatch, capsys):
    if not is_there(*NEEDS[name]):
        pytest.skip(f"needs {', '.join(NEEDS[name])}; JVAN_PEERS_PYTHON can name an interpreter that has them")
    engine = engines.PEERS[name]
    python = ["--python", NAMED] if NAMED else []
    check(engine, *run(monkeypatch, capsys, "--against", name, "--mode", *engine.modes, *python))


@pytest.mark.skipif(not NAMED, reason="compiles for a minute; JVAN_PEERS_PYTHON is not set")
def test_the_plain_graph(monkeypatch, capsys):
    engine = engines.PEERS["jittor"]
    check(engine, *run(monkeypatch, capsys, "--against", "jittor", "--mode", *engine.modes))


def test_a_training_step_of_jvan(monkeypatch, capsys):
    """A loss that does not move, or gradients that are not finite, would be a difference from itself."""
    status, (case,) = run(monkeypatch, capsys, "--against", "--mode", "train")
    (ours,) = case["engines"]
    assert (status, ours["engine"], ours["status"]) == (0, "jvan", "ok")
    assert ours["difference"] == 0 and ours["median_ms"] > 0 and ours["peak_mb"] > 10
