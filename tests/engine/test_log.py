"""The log of a run that is continued: what came after its state is not there twice."""

import csv
import struct

import pytest

from jvan.engine.config import TrainConfig
from jvan.engine.log import Log
from jvan.engine.state import Progress


def write(folder, first: int, last: int, add: float) -> None:
    """Steps `first` to `last`, each with its number and `add` as the loss."""
    config = TrainConfig(data="x", log_every=1, batch_size=4)
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


def records(data: bytes):
    """TensorFlow's record format: length, its checksum, the bytes, their checksum."""
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield data[at + 12 : at + 12 + length]
        at += 16 + length
