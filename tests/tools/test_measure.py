"""The programs behind the figures of docs/ run, and print figures."""

import pytest

from ..test_examples import ROOT, run


def depthwise(out):
    return all(float(out.splitlines()[-1].split("|")[i]) > 0 for i in (2, 3, 5, 6))


def loader(out):
    return all(float(line.split()[2]) > 1 for line in out.splitlines()) and out.count("\n") == 2


@pytest.mark.parametrize(("name", "check"), [("depthwise_speed.py", depthwise), ("loader_speed.py", loader)])
def test_program(name, check):
    output = run(ROOT / "tools" / "measure" / name)
    assert check(output), output
