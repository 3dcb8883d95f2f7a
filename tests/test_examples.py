"""Every example runs as a user runs it, and says what it should."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def run(path):
    result = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=600, cwd=ROOT, env=_environment()
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def _environment():
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "log_silent": "1"}


def losses(output):
    return [float(line.rsplit(" ", 1)[1]) for line in output.splitlines() if "loss" in line]


CHECKS = {
    "classify.py": lambda out: out.startswith("1. cat: ") and out.count("%") >= 3,
    "convert_and_check.py": lambda out: " tensors, equal bit for bit: True" in out and "van.encoder.stages" in out,
    "pyramid.py": lambda out: losses(out)[-1] < losses(out)[0],
}


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.name)
def test_example(path):
    output = run(path)
    assert CHECKS[path.name](output), output
