"""The code blocks of README and docs run, or a comment before them says why they do not."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jvan import train
from jvan.checkpoints.metadata import Metadata
from jvan.checkpoints.names.architecture import parameter_shapes
from jvan.checkpoints.state import State
from jvan.checkpoints.writers import save_state
from jvan.preprocessing import Preprocessing
from jvan.variants import VANConfig
from tests.engine.drawn import draw_folder
from weights_convert.random_state import random_state

ROOT = Path(__file__).parents[1]
PAGES = [str(p.relative_to(ROOT)) for p in sorted([*ROOT.glob("README*.md"), *ROOT.glob("docs/**/*.md")])]
BLOCK = re.compile(
    r"(?:^ *<!-- not run:(?P<reason>[^\n]*?)-->\n)?^ *```(?P<kind>\w*)[^\n]*\n(?P<code>.*?)^ *```$", re.S | re.M
)
JVAN = "import sys; from jvan.__main__ import main; sys.exit(main(sys.argv[1:]))"


def blocks(page):
    return list(BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """What the pages suppose: the examples, a folder of pictures for each class, and published weights, played by a small file."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(ROOT / "examples", folder / "examples")
    draw_folder(folder / "flowers", ("daisy", "rose", "tulip"))
    shutil.copy(folder / "flowers" / "rose" / "000.png", folder / "some.jpg")
    config = VANConfig((8, 8, 8, 8), (1, 1, 1, 1), (2, 2, 2, 2), num_classes=5, stem_stride=1)
    tensors = {name: np.full(shape, 0.5, np.float32) for name, shape in parameter_shapes(config).items()}
    state = State({**tensors, **random_state(parameter_shapes(config))}, Metadata(config, Preprocessing(size=32)))
    save_state(state, folder / "small.safetensors")
    (folder / "small.safetensors").rename(folder / "van_b0.in1k")  # a file that is there wins over a published name
    return folder


@pytest.fixture
def folder(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return tmp_path


def run(arguments, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "log_silent": "1"}
    command = [sys.executable, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=folder, env=environment)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", PAGES)
def test_marks_have_a_reason(page):
    assert all(block["reason"] is None or block["reason"].strip() for block in blocks(page))


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run(page, folder):
    unmarked = [block for block in blocks(page) if block["reason"] is None]
    python = [block["code"] for block in unmarked if block["kind"] == "python"]
    if python:
        run(["-c", "\n".join(python)], folder)
    for block in unmarked:
        assert block["kind"] in ("python", "sh", "text"), f"{page}: a block of kind {block['kind']!r}"
        for line in block["code"].splitlines() if block["kind"] == "sh" else ():
            assert line.startswith("jvan "), f"{page}: this line is neither run nor marked: {line}"
            run(["-c", JVAN, *line.split()[1:]], folder)


def commands(code):
    """The whole jvan commands of a shell block, as lists of words; a variable's words are left out."""
    for line in code.replace("\\\n", " ").splitlines():
        words = [word for word in shlex.split(line, comments=True) if "$" not in word]
        for start in [i for i, word in enumerate(words) if word == "jvan"]:
            ends = [i for i, word in enumerate(words) if i > start and (word in ("&&", "|") or word.startswith(">"))]
            if "…" not in (found := words[start + 1 : min(ends, default=len(words))]):
                yield found


def parse(name, arguments):
    """As the command would; bad usage ends the process with status 2."""
    if name == "train":
        return train._parser(train._task_in(arguments)).parse_args(arguments)
    module = importlib.import_module(f"jvan.{name.replace('-', '_')}")
    parser = next(getattr(module, each) for each in ("_parser", "parser", "_parse") if hasattr(module, each))
    return parser(arguments) if parser.__name__ == "_parse" else parser().parse_args(arguments)


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_not_run_are_right_usage(page):
    for block in blocks(page):
        if block["reason"] is not None and block["kind"] == "sh":
            for name, *arguments in commands(block["code"]):
                parse(name, arguments)


def test_an_option_that_is_gone_is_noticed(capsys):
    (command,) = commands('mpirun -np 2 jvan train DATA "${same[@]}" \\\n    --epochs 3 --warm-up 2 >log  # a night\n')
    assert command == ["train", "DATA", "--epochs", "3", "--warm-up", "2"]
    with pytest.raises(SystemExit):
        parse(command[0], command[1:])
    assert "--warm-up" in capsys.readouterr().err
