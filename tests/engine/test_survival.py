"""A run that is killed, stopped or out of disk goes on to the same weights, bit for bit, as one that was left alone."""

import os
import random
import resource
import signal
import time
from pathlib import Path

import pytest

from jvan.engine.resume import read_state_file, state_files

from .drawn import OPTIONS, draw_folder, run, start

STEPS = 195
RUN = (*OPTIONS, "--epochs", "65", "--log-every", "1", "--checkpoint-every", "2", "--workers", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_folder(tmp_path_factory.mktemp("data") / "train").parent


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """The folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    run(data / "train", *RUN, "--output", folder)
    assert saved_step(folder) == STEPS
    return folder


def saved_step(folder) -> int:
    """The step of the newest state; 0 without one."""
    files = state_files(folder / "state") if (folder / "state").exists() else []
    return int(files[0].name[5:14]) if files else 0


def wait_until(process, condition, pause=0.01):
    """Poll until `condition()`, while the process runs; without a pause for what lasts a millisecond."""
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(pause)


def assert_same(one, other):
    for name in ("last.safetensors", "best.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    states = [read_state_file(state_files(folder / "state")[0]) for folder in (one, other)]
    assert states[0].progress == states[1].progress and states[0].tensors.keys() == states[1].tensors.keys()
    for name, array in states[0].tensors.items():
        assert array.tobytes() == states[1].tensors[name].tobytes(), name
    assert _rows(one / "log.csv", 4) == _rows(other / "log.csv", 4)
    assert _rows(one / "validation.csv", 6) == _rows(other / "validation.csv", 6)


def _rows(path, columns):
    return [line.split(",")[:columns] for line in path.read_text().splitlines()]


def test_killed_twenty_times(data, undisturbed, tmp_path):
    chance, while_saving = random.Random(4), 0
    states = tmp_path / "state"
    ends = sorted(chance.sample(range(4, STEPS - 45), 20))  # spread over the run; a tenth of a second is left
    for life, end in enumerate(ends):
        before = saved_step(tmp_path)
        process = start(data / "train", *RUN, "--output", tmp_path, "--resume")
        goal = max(end, before + 1)  # it must have gone on
        wait_until(process, lambda goal=goal: saved_step(tmp_path) >= goal)
        if life % 2:
            wait_until(process, lambda: any(name.endswith(".part") for name in os.listdir(states)), pause=0)
        else:
            time.sleep(chance.random() * 0.1)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
        process.stdout.close()
        while_saving += any(name.endswith(".part") for name in os.listdir(states))
        assert before < saved_step(tmp_path) < STEPS
    assert while_saving >= 5
    run(data / "train", *RUN, "--output", tmp_path, "--resume")
    assert_same(tmp_path, undisturbed)
    assert not [name for folder in (tmp_path, states) for name in os.listdir(folder) if name.endswith(".part")]


def test_stopped_between_checkpoints(data, undisturbed, tmp_path):
    """By SIGTERM, then, continued, by Ctrl-C, each after the first step of an epoch."""
    options = (*RUN, "--checkpoint-every", "1000", "--output", tmp_path, "--resume")
    log = tmp_path / "log.csv"
    for number, status, goal in ((signal.SIGTERM, 143, 7), (signal.SIGINT, 130, 19)):
        process = start(data / "train", *options)
        wait_until(process, lambda goal=goal: log.exists() and log.read_text().count("\n") > goal)
        os.killpg(process.pid, number)  # as terminals, `timeout` and job schedulers do
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == status, printed
        assert "Traceback" not in printed and "--resume goes on" in printed
        step = saved_step(tmp_path)
        assert f"stopped after step {step};" in printed and step >= goal - 1
    run(data / "train", *options)
    assert_same(tmp_path, undisturbed)


def test_a_full_disk_is_one_line_and_leaves_the_older_state(data, undisturbed, tmp_path):
    process = start(data / "train", *RUN, "--output", tmp_path)
    wait_until(process, lambda: saved_step(tmp_path) >= 6)
    # A file that grows beyond this fails as on a full disk; the weights still fit, the state does not.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in printed
    (line,) = [line for line in printed.splitlines() if "too large" in line]
    step = saved_step(tmp_path)
    assert any(
        f"step-{step + more:09d}.safetensors" in line for more in range(3)
    )  # the one to come, or this one once validated
    assert read_state_file(state_files(tmp_path / "state")[0]).progress.step == step >= 6
    run(data / "train", *RUN, "--output", tmp_path, "--resume")
    assert_same(tmp_path, undisturbed)


def test_a_killed_worker_ends_the_run_and_loses_nothing(data, undisturbed, tmp_path):
    options = (*RUN, "--checkpoint-every", "1000", "--output", tmp_path)
    process = start(data / "train", *options)
    log = tmp_path / "log.csv"
    wait_until(process, lambda: log.exists() and log.read_text().count("\n") > 7)
    (worker,) = _workers(process.pid)
    os.kill(worker, signal.SIGKILL)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in printed and "worker" in printed.splitlines()[-1]
    assert saved_step(tmp_path) == len(_rows(log, 1)) - 1 >= 7
    run(data / "train", *options, "--resume")
    assert_same(tmp_path, undisturbed)


def _workers(parent: int) -> list[int]:
    """The processes that prepare pictures for training, and not those that compile for Jittor."""
    children = [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return [pid for pid in children if b"jvan.data.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()][:1]
