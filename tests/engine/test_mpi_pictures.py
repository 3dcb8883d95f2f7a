"""Several processes: pictures that cannot be read, and those of a step that failed, are named and counted over all of them."""

import re

import pytest

from jvan.data.shares import training_batch
from jvan.data.source import open_split

from .drawn import OPTIONS, draw_folder, run, start
from .test_mpi import one_thread_a_process, pytestmark  # noqa: F401

EACH, BATCH, SEED = 100, 16, 5
COUNT = 4 * EACH
RUN = (*OPTIONS, "--batch-size", str(BATCH), "--seed", str(SEED), "--epochs", "1", "--workers", "0")


@pytest.fixture
def data(tmp_path):
    """400 pictures to learn from, 20 to validate on."""
    classes = ("ant", "bee", "cat", "dog")
    draw_folder(tmp_path / "data" / "train", classes, EACH)
    draw_folder(tmp_path / "data" / "val", classes, 5, seed=1)
    return tmp_path / "data"


def damage(data, each: int) -> list[str]:
    """Spoil so many pictures of each of two processes, the first that it meets; their names."""
    split = open_split(data, "train")
    steps = [[training_batch(COUNT, BATCH, SEED, 0, step, rank, 2) for step in range(each)] for rank in range(2)]
    names = [split.name(int(batch[0])) for shares in steps for batch in shares]
    for name in names:
        open(name, "wb").close()
    return names


def test_few_are_named_once_and_counted_together(data, tmp_path):
    """0.5 %, one in each process's share; one more in the second's share of the validation."""
    names = damage(data, each=1)
    held_out = open_split(data, "val").name(BATCH // 2 + 1)
    open(held_out, "wb").close()
    printed = run(data, *RUN, "--output", tmp_path / "run", ranks=2)
    lines = [line for line in printed.splitlines() if "unreadable so far" in line]
    assert sorted(line.split(": ")[1] for line in lines) == sorted([*names, held_out]), printed
    assert [f"so far: {count})" in line for count, line in enumerate(lines, 1)] == [True] * 3
    assert [line.count("another of its class takes its place") for line in lines] == [1, 1, 0]
    assert "of 19 pictures" in printed and "step 25/25" in printed


def test_too_many_of_all_are_one_line_and_the_end_of_all(data, tmp_path):
    """2 %, of which neither process meets more than 1 %: the fifth one ends both."""
    damage(data, each=4)
    process = start(data, *RUN, "--output", tmp_path / "run", ranks=2)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "Traceback" not in printed, printed
    (line,) = [line for line in printed.splitlines() if "cannot be read" in line]
    assert re.search(r"one of [56] of 400 pictures that cannot be read, more than 1 %", line)
    assert "another one failed" not in printed and "on signal" not in printed


def test_the_pictures_of_a_loss_that_is_not_finite_are_those_of_all(data, tmp_path):
    options = ("--lr", "1e30", "--warmup-epochs", "0", "--output", tmp_path / "run")
    process = start(data, *RUN, *options, ranks=2)
    printed, _ = process.communicate(timeout=300)
    (line,) = [line for line in printed.splitlines() if "not finite" in line]
    assert process.returncode == 1 and "and 8 more" in line
    step = int(line.split("step ")[1].split(":")[0]) - 1
    split = open_split(data, "train")
    wanted = {split.name(int(index)) for index in training_batch(COUNT, BATCH, SEED, 0, step)}
    names = (tmp_path / "run" / "not-finite.txt").read_text().splitlines()
    assert len(names) == BATCH and set(names) == wanted
