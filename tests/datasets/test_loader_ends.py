"""However the loader or one of its processes ends, nothing of it stays behind."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jvan.data import pool
from jvan.data.loader import Loader
from jvan.errors import TrainingError

from .drawn import in_memory
from .test_loader import AUGMENT

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks at processes through /proc")
PATIENCE = 20
ROOT = Path(__file__).parents[2]

SCRIPT = """
import os, sys, time
{first}
from jvan.data.loader import Loader
from tests.datasets.drawn import in_memory
from tests.datasets.test_loader import AUGMENT
loader = Loader(in_memory(400), AUGMENT, 0, 16, workers=2)
epoch = loader.epoch(0)
next(epoch)
{then}
print(*[process.pid for process in loader._pool._processes], flush=True)
{last}
"""


def alive(pid) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_gone(pids):
    deadline = time.monotonic() + PATIENCE
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.01)


def shared() -> list[str]:
    """The loaders' memory that this process has open or mapped."""
    own = Path("/proc/self")
    opened = [os.readlink(link) for link in (own / "fd").iterdir() if link.is_symlink()]
    return [line for line in [*opened, *(own / "maps").read_text().splitlines()] if "memfd:jvan-loader" in line]


def start(first="", then="", last="time.sleep(60)"):
    """A process with a loader, and its workers' process ids; in a group of its own, as a shell starts it."""
    script = SCRIPT.format(first=first, then=then, last=last)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids = process.stdout.readline().split()
    assert len(pids) == 2, process.communicate()[1]
    return process, pids


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_workers_end_with_their_parent(name):
    process, pids = start()
    assert all(map(alive, pids))
    os.killpg(process.pid, getattr(signal, name))  # as Ctrl-C does: the whole group
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0 and errors.count("Traceback") == (name == "SIGINT")
    assert_gone(pids)


@pytest.mark.parametrize("busy", ["for batch in loader.epoch(1): pass", "", "sys.exit()", "os._exit(3)"])
def test_workers_end_with_a_parent_that_simply_ends(busy):
    process, pids = start(last=busy)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == (3 if "_exit" in busy else 0)
    assert_gone(pids)


def test_workers_end_in_the_middle_of_a_picture():
    """A parent that is killed while its workers compute for a long time, without looking at their input."""
    process, pids = start(first="import tests.datasets.test_loader_ends as t; t.make_slow()", then="")
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert_gone(pids)


def make_slow():
    """Let workers take a second for each picture after the first batch."""
    from tests.datasets import test_loader

    test_loader.AUGMENT = Slow()


class Slow:
    shape = (3, 2, 2)

    def __init__(self):
        self.count = 0

    def __call__(self, picture, rng):
        import numpy as np

        self.count += 1
        if self.count > 8:
            time.sleep(30)
        return np.zeros(self.shape, np.float32)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGABRT", "SIGSEGV"])
def test_a_workers_death_is_an_error_that_names_it(name):
    with Loader(in_memory(400), AUGMENT, 0, 16, workers=3) as loader:
        epoch = loader.epoch(0)
        next(epoch)
        processes = list(loader._pool._processes)
        os.kill(processes[1].pid, getattr(signal, name))
        began = time.monotonic()
        with pytest.raises(TrainingError, match=rf"worker 1 .*process {processes[1].pid}.* was ended by {name}"):
            list(epoch)
        assert time.monotonic() - began < PATIENCE
        assert all(process.poll() is not None for process in processes)  # ended, and no zombies
        assert len(list(loader.epoch(0))) == 25  # started anew


def test_workers_leave_a_signal_to_stop_to_their_parent():
    """A manager of jobs sends SIGTERM to every process of one; the parent then still needs the pictures of its last step."""
    with Loader(in_memory(400), AUGMENT, 0, 16, workers=3) as loader:
        epoch = loader.epoch(0)
        next(epoch)
        for process in loader._pool._processes:
            os.kill(process.pid, signal.SIGTERM)
        assert len(list(epoch)) == 24


def test_a_worker_may_die_between_epochs():
    with Loader(in_memory(40), AUGMENT, 0, 8, workers=2) as loader:
        list(loader.epoch(0))
        os.kill(loader._pool._processes[0].pid, signal.SIGKILL)
        with pytest.raises(TrainingError, match="worker 0"):
            list(loader.epoch(1))


def test_a_forked_process_ends_no_workers():
    last = "pid = os.fork()\nif pid == 0: sys.exit()\nos.waitpid(pid, 0); print(len(list(loader.epoch(1))))"
    process, _ = start(last=last)
    assert process.communicate(timeout=PATIENCE)[0] == "25\n"


def test_a_job_without_standard_streams(tmp_path):
    script = f"""
import os
for descriptor in (0, 1, 2):
    os.close(descriptor)
from jvan.data.loader import Loader
from tests.datasets.drawn import in_memory
from tests.datasets.test_loader import AUGMENT
with Loader(in_memory(40), AUGMENT, 0, 8, workers=2) as loader:
    count = len(list(loader.epoch(0)))
with open({str(tmp_path / "count")!r}, "w") as file:
    file.write(str(count))
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=PATIENCE, check=True)
    assert (tmp_path / "count").read_text() == "5"


def test_jittor_does_not_end_the_process_when_a_worker_dies():
    """Imported after the loader was started, Jittor would, by a signal handler of its own."""
    last = """
import signal
os.kill(loader._pool._processes[0].pid, signal.SIGKILL)
time.sleep(0.3)
try:
    list(loader.epoch(1))
except Exception as error:
    print(type(error).__name__)
"""
    process, pids = start(then="import jittor; next(loader.epoch(0))", last=last)
    out, errors = process.communicate(timeout=120)
    assert out == "TrainingError\n" and process.returncode == 0, errors
    assert_gone(pids)


def test_ctrl_c_while_waiting_ends_the_workers():
    with Loader(in_memory(400), AUGMENT, 0, 16, workers=2) as loader:
        epoch = loader.epoch(0)
        next(epoch)
        processes = list(loader._pool._processes)
        for process in processes:
            process.send_signal(signal.SIGSTOP)  # so that the loader surely waits
        previous = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            with pytest.raises(KeyboardInterrupt):
                list(epoch)
        finally:
            signal.signal(signal.SIGALRM, previous)
        assert all(process.poll() is not None for process in processes)


def test_a_forgotten_loader_ends_its_workers():
    gc.collect()
    before = shared()
    loader = Loader(in_memory(400), AUGMENT, 0, 16, workers=2)
    next(loader.epoch(0))
    pids = [process.pid for process in loader._pool._processes]
    assert len(shared()) > len(before)
    del loader
    gc.collect()
    assert_gone(pids)
    assert shared() == before


def test_a_worker_that_cannot_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(TrainingError, match="cannot start a loader's worker"):
        list(Loader(in_memory(40), AUGMENT, 0, 8, workers=2).epoch(0))


def test_a_worker_that_fails_at_once(monkeypatch):
    monkeypatch.setattr(pool.worker_module, "START", "raise SystemExit(7)")
    with pytest.raises(TrainingError, match=r"worker 0 .* ended with status 7"):
        list(Loader(in_memory(40), AUGMENT, 0, 8, workers=2).epoch(0))
