"""docs/jittor.md names files, and each of them exists and touches what its row says."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/jittor.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| What")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_every_place_is_there(row):
    what, where, _, shows = row
    paths = [ROOT / path for path in re.findall(r"`((?:jvan|tests)/[\w/.]+)`", where + shows)]
    assert paths and all(path.exists() for path in paths), where
    text = "".join(file.read_text(encoding="utf-8") for path in paths if "jvan" in path.parts for file in files(path))
    names = [name for name in re.findall(r"`([A-Za-z_][\w.:]*)`", what) if not name.startswith("jvan")]
    assert all(re.split(r"[.:]+", name)[-1] in text for name in names), names


def files(path):
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.suffix in (".py", ".h", ".cuh")]


def test_the_requirement_is_what_was_tested():
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert '"jittor==1.3.11.*"' in setup
