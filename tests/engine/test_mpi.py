"""Several processes learn what one learns: the same losses from the same global batches, each picture counted once."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jvan.engine.resume import read_state_file, state_files

from .drawn import OPTIONS, draw_folder, run, start

pytestmark = pytest.mark.skipif(
    not (shutil.which("mpirun") and shutil.which("mpicc")), reason="needs OpenMPI: openmpi-bin and libopenmpi-dev"
)
RUN = (*OPTIONS, "--batch-size", "16", "--epochs", "3", "--lr", "1e-3", "--log-every", "1", "--workers", "0")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    draw_folder(folder / "train", each=18)
    draw_folder(folder / "val", each=7, seed=1)
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_thread_a_process():
    """More threads than cores would make the processes wait for each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    run(data, *RUN, "--sync-bn", "--output", folder)
    return folder


def column(path, name):
    with open(path, newline="") as file:
        return np.array([float(row[name]) for row in csv.DictReader(file)])


def tensors(folder):
    return read_state_file(state_files(folder / "state")[0]).tensors


@pytest.mark.parametrize(("ranks", "parts"), [(1, 1), (2, 1), (4, 1), (2, 2)])
def test_the_same_losses_as_one_process(data, alone, tmp_path, ranks, parts):
    printed = run(data, *RUN, "--sync-bn", "--accum-steps", parts, "--output", tmp_path, ranks=ranks)
    assert printed.count("jvan train: network:") == 1
    losses, wanted = column(tmp_path / "log.csv", "loss"), column(alone / "log.csv", "loss")
    assert len(losses) == len(wanted) == 9
    # Parts of a batch have statistics of their own, so that only nearly the same comes out.
    assert np.abs(losses - wanted).max() <= (2e-6 if parts == 1 else 1e-2) * wanted.max()
    assert "of 21 pictures" in printed
    assert np.abs(column(tmp_path / "validation.csv", "loss") - column(alone / "validation.csv", "loss")).max() < 1e-2
    if parts == 1:
        ours, theirs = tensors(tmp_path), tensors(alone)
        for name in theirs:
            if name.startswith("model.") and ".running_" in name and not name.startswith("model.patch_embed"):
                assert np.abs(ours[name] - theirs[name]).max() <= 1e-3 * np.abs(theirs[name]).max() + 1e-6, name


def test_without_sync_every_process_has_its_own_statistics(data, alone, tmp_path):
    run(data, *RUN, "--output", tmp_path, ranks=2)
    losses, wanted = column(tmp_path / "log.csv", "loss"), column(alone / "log.csv", "loss")
    assert 1e-5 < np.abs(losses - wanted).max() < 0.5


def test_synchronised_is_batch_norm_in_one_process(data, alone, tmp_path):
    run(data, *RUN, "--output", tmp_path)
    losses, wanted = column(tmp_path / "log.csv", "loss"), column(alone / "log.csv", "loss")
    assert np.abs(losses - wanted).max() <= 2e-6 * wanted.max()


def test_goes_on_bit_for_bit(data, tmp_path):
    run(data, *RUN, "--output", tmp_path / "whole", ranks=2)
    run(data, *RUN, "--output", tmp_path / "parts", "--max-steps", "4", ranks=2)
    run(data, *RUN, "--output", tmp_path / "parts", "--resume", ranks=2)
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert whole.keys() == parts.keys() and all(whole[name].tobytes() == parts[name].tobytes() for name in whole)


def test_what_fails_in_one_process_ends_all_and_loses_nothing(data, tmp_path):
    """A worker of the second process dies: the first saves. Then the first alone refuses a folder that holds a run."""
    options = (*RUN[:-1], "1", "--epochs", "99", "--checkpoint-every", "1000", "--output", tmp_path)
    process = start(data / "train", *options, ranks=2)
    log = tmp_path / "log.csv"
    end = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") > 5):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    os.kill(worker_of(process.pid, rank=1), signal.SIGKILL)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode != 0 and "Traceback" not in printed
    assert "was ended by SIGKILL" in printed
    assert read_state_file(state_files(tmp_path / "state")[0]).progress.step >= 5
    again = start(data / "train", *options, ranks=2)
    printed, _ = again.communicate(timeout=60)
    assert again.returncode != 0 and "Traceback" not in printed and "holds a run already" in printed


def worker_of(mpirun: int, rank: int) -> int:
    for trainer in children(mpirun):
        if f"OMPI_COMM_WORLD_RANK={rank}".encode() in Path(f"/proc/{trainer}/environ").read_bytes().split(b"\0"):
            for child in children(trainer):
                if b"jvan.data.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return child
    raise AssertionError("no worker")


def children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def test_a_measure_counts_every_picture_once(data, alone, tmp_path):
    """21 pictures in batches of 4 over two processes: some rows of the last ones are empty, one of the second's is damaged."""
    pictures = Path(shutil.copytree(data / "val", tmp_path / "val"))
    (pictures / "ant" / "002.png").write_bytes(b"no picture")
    command = [
        sys.executable,
        "-m",
        "jvan.validate",
        pictures,
        "--weights",
        alone / "best.safetensors",
        "--json",
        "--batch-size",
        "4",
    ]
    two = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "2", *command]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    found = []
    for arguments in (command, two):
        done = subprocess.run(list(map(str, arguments)), env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
        assert done.stderr.count("002.png") == 1, done.stderr
    assert found[0].pop("loss") == pytest.approx(found[1].pop("loss"), rel=1e-5)
    assert found[0] == found[1] and found[0]["pictures"] == 20
    assert [name for name, _ in found[1]["corrupt"]] == [str(pictures / "ant" / "002.png")]


def test_means_by_way_of_the_hosts_memory(tmp_path):
    """As GPUs exchange them, which Jittor's MPI does not reach; the operator itself for comparison."""
    script = tmp_path / "means.py"
    script.write_text(
        "import jittor as jt, numpy as np\n"
        "from jvan.engine import parallel\n"
        "processes = parallel.Processes()\n"
        "mine = [jt.array(np.random.RandomState(processes.rank).standard_normal(s).astype('float32')) for s in ((3, 5), (7,))]\n"
        "direct = [v.numpy() for v in processes.mean(mine)]\n"
        "parallel.on_gpu = lambda: True\n"
        "staged = [v.numpy() for v in processes.mean(mine)]\n"
        "total = [np.random.RandomState(0).standard_normal(s) + np.random.RandomState(1).standard_normal(s) for s in ((3, 5),)]\n"
        "assert all(np.array_equal(a, b) for a, b in zip(direct, staged))\n"
        "assert np.abs(staged[0] - total[0] / 2).max() < 1e-6 and staged[1].shape == (7,)\n"
        "print('equal')\n"
    )
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "2", sys.executable, str(script)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.count("equal") == 2, done.stderr


def test_a_batch_that_cannot_be_shared_is_one_line(data, tmp_path):
    process = start(data, *RUN, "--batch-size", "18", "--output", tmp_path, ranks=4)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in printed
    assert "batch of 18" in printed
