"""The folder that a run writes: what it takes for its own."""

import signal

import pytest

from jvan.engine.config import TrainConfig
from jvan.engine.output import Output
from jvan.engine.signals import StopRequest
from jvan.errors import TrainingError


def output(folder, data="elsewhere"):
    return Output(TrainConfig(data=str(data), output=str(folder)))


def test_only_its_own_leftovers_are_removed(tmp_path):
    kept = {".notes.part", ".tmp_notes.txt", ".last.safetensors.part", ".config.json.0123456789ab.part.txt"}
    gone = {".last.safetensors.0123456789ab.part", ".log.csv.0123456789ab.part", ".tmpAbC123"}
    for name in kept | gone:
        (tmp_path / name).write_text("x")
    (tmp_path / ".tmpfolder").mkdir()
    (tmp_path / ".tmpabcdef").mkdir()
    with output(tmp_path).claimed():
        pass
    left = {path.name for path in tmp_path.iterdir()}
    assert kept | {".tmpfolder", ".tmpabcdef"} <= left and not gone & left


def test_two_runs_cannot_write_one_folder(tmp_path):
    refused = pytest.raises(TrainingError, match="another run is writing there")
    with output(tmp_path).claimed(), refused, output(tmp_path).claimed():
        pass
    with output(tmp_path).claimed():
        pass


@pytest.mark.parametrize("place", ["train/run", "train", "val/run", "test"])
def test_a_part_of_the_data_is_no_place(tmp_path, place):
    (tmp_path / "train" / "ant").mkdir(parents=True)
    with pytest.raises(TrainingError, match="among the pictures"), output(tmp_path / place, tmp_path).claimed():
        pass
    with output(tmp_path / "run", tmp_path).claimed():
        pass


def test_a_signal_while_a_line_is_being_written_is_remembered():
    def tell(message):
        raise RuntimeError("reentrant call inside <_io.BufferedWriter>")

    with StopRequest(tell) as request:
        signal.raise_signal(signal.SIGTERM)
        assert request.signal == signal.SIGTERM
