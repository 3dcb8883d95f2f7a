"""The log of a run that is continued: what came after its state is not there twice."""

import csv
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jvan.classification.task import ClassificationConfig
from jvan.engine.log import Log, _Rows
from jvan.engine.resume import Progress


def write(folder, first: int, last: int, add: float) -> None:
    """Steps `first` to `last`, each with its number and `add` as the loss."""
    config = ClassificationConfig(data="x", log_every=1, batch_size=4)
    with Log(folder, Progress(step=first - 1), 9, config, True, lambda line: None) as log:
        for step in range(first, last + 1):
            log.step(step, 1, 1e-3, step + add)


def continued(folder) -> dict[int, float]:
    """A run of six steps whose state is that of the third, from which it goes on; the losses that are to be seen."""
    write(folder, 1, 6, add=0.5)
    write(folder, 4, 5, add=100)
    return {1: 1.5, 2: 2.5, 3: 3.5, 4: 104, 5: 105}


def test_rows(tmp_path):
    expected = continued(tmp_path)
    with open(tmp_path / "log.csv", newline="") as file:
        assert {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file)} == expected


def test_a_tables_damaged_end_is_dropped(tmp_path):
    """As a power failure may leave it."""
    write(tmp_path, 1, 3, add=0.5)
    with open(tmp_path / "log.csv", "ab") as file:
        file.write(b"4,1,0.001,\xff\0\0\0\n\0\0\0")
    write(tmp_path, 4, 4, add=100)
    with open(tmp_path / "log.csv", newline="") as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == [1.5, 2.5, 3.5, 104]


def test_tensorboards_events(tmp_path):
    """A session that begins at a step hides the events of earlier ones from that step on."""
    protocol = pytest.importorskip("tensorboardX.proto.event_pb2")
    expected, shown = continued(tmp_path), {}
    for path in sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns):
        for event in map(protocol.Event.FromString, records(path.read_bytes())):
            if event.session_log.status == protocol.SessionLog.START:
                shown = {step: loss for step, loss in shown.items() if step < event.step}
            for value in event.summary.value:
                if value.tag == "train/loss":
                    shown[event.step] = value.simple_value
    assert shown == expected


def test_tensorboard_has_the_tables_figures(tmp_path):
    protocol = pytest.importorskip("tensorboardX.proto.event_pb2")
    config = ClassificationConfig(data="x", log_every=1, batch_size=4, dtype="float16")
    with Log(tmp_path, Progress(), 9, config, True, lambda line: None) as log:
        log.step(1, 1, 0.25, 1.5, 1024.0)
        log.validation(
            1, 1, SimpleNamespace(figures={"top1": 0.5, "top5": 0.75, "loss": 2.5}, describe=lambda: ""), True
        )
    (path,) = (tmp_path / "tensorboard").iterdir()
    events = map(protocol.Event.FromString, records(path.read_bytes()))
    found = {value.tag: value.simple_value for event in events for value in event.summary.value}
    with open(tmp_path / "log.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert found.pop("train/pictures_per_s") == pytest.approx(float(row["pictures_per_s"]), abs=0.06, rel=1e-6)
    assert found == {
        "train/loss": 1.5, "train/lr": 0.25, "train/loss_scale": 1024,
        "validation/top1": 0.5, "validation/top5": 0.75, "validation/loss": 2.5,
    }  # fmt: skip


def test_a_full_disk_is_told_with_the_files_name(tmp_path):
    """Once, by the row that fails; closing the file, which tries again, says nothing more."""
    rows = _Rows(tmp_path / "log.csv", ("step", "loss"), 0)
    rows._file.close()
    rows._file = open("/dev/full", "a", encoding="utf-8")  # noqa: SIM115
    rows._writer = csv.writer(rows._file)
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        rows.write((1, 0.5))
    rows.close()


def test_tensorboards_events_on_a_full_disk(tmp_path):
    """The first event that cannot be written ends the run; tensorboardX's own thread would die and the run wait for ever."""
    pytest.importorskip("tensorboardX")
    program = (
        "import resource, signal, sys\n"
        "from jvan.engine.board import Board\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "board = Board(__import__('pathlib').Path(sys.argv[1]), 0)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try:\n"
        "    for step in range(1000):\n"
        "        board.add(step, {'train/loss': 1.0})\n"
        "except OSError as error:\n"
        "    print(step, error.filename)\n"
        "board.close()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "board")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    step, _, name = done.stdout.strip().partition(" ")
    assert 5 < int(step) < 100 and name == str(tmp_path / "board") and "Traceback" not in done.stderr


def records(data: bytes):
    """TensorFlow's record format: length, its checksum, the bytes, their checksum."""
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield data[at + 12 : at + 12 + length]
        at += 16 + length
