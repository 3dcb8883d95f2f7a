"""The code blocks of README and docs run, or a comment before them says why they do not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# These pages' blocks need data sets, or a GPU, and have no marks yet.
UNMARKED = {"docs/gpu.md", "docs/training.md"}
PAGES = [str(p.relative_to(ROOT)) for p in sorted([*ROOT.glob("README*.md"), *ROOT.glob("docs/**/*.md")])]
BLOCK = re.compile(r"(?:^<!-- not run:(?P<reason>.*?)-->\n)?^```(?P<kind>\w*)[^\n]*\n(?P<code>.*?)^```$", re.S | re.M)
JVAN = "import sys; from jvan.__main__ import main; sys.exit(main(sys.argv[1:]))"


def blocks(page):
    return list(BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")))


def run(arguments, folder):
    shutil.copytree(ROOT / "examples", folder / "examples", dirs_exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "log_silent": "1"}
    command = [sys.executable, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=folder, env=environment)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", PAGES)
def test_marks_have_a_reason(page):
    assert all(block["reason"] is None or block["reason"].strip() for block in blocks(page))


@pytest.mark.parametrize("page", [p for p in PAGES if p not in UNMARKED])
def test_blocks_run(page, tmp_path):
    unmarked = [block for block in blocks(page) if block["reason"] is None]
    python = [block["code"] for block in unmarked if block["kind"] == "python"]
    if python:
        run(["-c", "\n".join(python)], tmp_path)
    for block in unmarked:
        assert block["kind"] in ("python", "sh", "text"), f"{page}: a block of kind {block['kind']!r}"
        for line in block["code"].splitlines() if block["kind"] == "sh" else ():
            assert line.startswith("jvan "), f"{page}: this line is neither run nor marked: {line}"
            run(["-c", JVAN, *line.split()[1:]], tmp_path)
