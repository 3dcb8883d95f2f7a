"""The folder that a run writes: what it takes for its own."""

import os
import signal

import pytest

from jvan._stop import Stopped
from jvan.classification.task import ClassificationConfig
from jvan.engine.board import Board
from jvan.engine.curves import draw
from jvan.engine.log import Log
from jvan.engine.output import FILES, LOCK, Output
from jvan.engine.resume import Progress, newest_state
from jvan.engine.signals import StopRequest
from jvan.errors import TrainingError

from ..checkpoints.tiny_states import tiny_state


def output(folder, data="elsewhere"):
    return Output(ClassificationConfig(data=str(data), output=str(folder)))


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


SOMEBODYS = b"somebody's own file, which the run must not touch"
STATE = "state/step-000000001.safetensors"


@pytest.fixture
def somebodys(tmp_path):
    path = tmp_path / "somebodys"
    path.write_bytes(SOMEBODYS)
    return path


@pytest.fixture
def prepared(tmp_path):
    """A folder for a run that somebody else made before."""
    folder = tmp_path / "run"
    (folder / "state").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("target", ["somebodys", "missing"])
@pytest.mark.parametrize("name", [LOCK, *FILES, STATE])
def test_a_file_that_is_a_link_is_refused_before_the_run(prepared, somebodys, name, target):
    (prepared / name).symlink_to(somebodys.with_name(target))
    with pytest.raises(TrainingError, match="is a link, and a run follows none") as error, output(prepared).claimed():
        pass
    assert str(prepared / name) in str(error.value) and "\n" not in str(error.value)
    assert somebodys.read_bytes() == SOMEBODYS and not somebodys.with_name("missing").exists()
    assert set(os.listdir(prepared)) <= {"state", name}


def test_a_link_to_a_table_of_ones_own_is_refused_too(prepared, somebodys):
    somebodys.write_bytes(b"step,epoch,lr\n")
    (prepared / "log.csv").symlink_to(somebodys)
    with pytest.raises(TrainingError, match="is a link"), output(prepared).claimed():
        pass


@pytest.mark.parametrize("name", [LOCK, "log.csv", "best.safetensors", STATE])
def test_a_pipe_is_refused_and_not_waited_for(prepared, name):
    os.mkfifo(prepared / name)
    with pytest.raises(TrainingError, match="is no regular file"), output(prepared).claimed():
        pass


def test_a_second_name_of_somebodys_file_is_not_emptied(prepared, somebodys):
    os.link(somebodys, prepared / LOCK)
    with output(prepared).claimed():
        pass
    assert somebodys.read_bytes() == SOMEBODYS


def write_everything(run: Output) -> None:
    """As a run does after one step."""
    weights = tiny_state()
    run.save_config()
    with Log(run.folder, Progress(), 9, run.config, True, lambda line: None) as log:
        log.step(1, 1, 0.1, 0.5)
    run.save_weights("best", weights.tensors, weights.metadata)
    run.save_weights("last", weights.tensors, weights.metadata)
    run.save_state(weights.tensors, Progress(step=1), "data")
    run.listed([str(number) for number in range(20)])
    draw(run.folder, "top1")


def test_links_that_appear_while_it_runs_are_not_followed(prepared, somebodys):
    pytest.importorskip("matplotlib")
    run = Output(ClassificationConfig(data="elsewhere", output=str(prepared), log_every=1, batch_size=4))
    with run.claimed():
        for name in (*FILES, STATE):
            (prepared / name).symlink_to(somebodys)
        write_everything(run)
    assert somebodys.read_bytes() == SOMEBODYS
    assert not [name for name in (*FILES, STATE) if (prepared / name).is_symlink()]


def test_a_table_that_becomes_a_link_ends_the_run(prepared, somebodys, monkeypatch):
    """Between its first row and its opening for the others."""
    replace = os.replace

    def then_a_link(source, target):
        replace(source, target)
        os.unlink(target)
        os.symlink(somebodys, target)

    monkeypatch.setattr(os, "replace", then_a_link)
    with pytest.raises(OSError, match="is a link"):
        Log(prepared, Progress(), 9, ClassificationConfig(data="x"), True, lambda line: None)
    assert somebodys.read_bytes() == SOMEBODYS


def test_tensorboards_file_cannot_be_foreseen(prepared):
    pytest.importorskip("tensorboardX")
    for name in ("one", "two"):
        Board(prepared / name, 3).close()
    (one,), (two,) = (sorted(os.listdir(prepared / name)) for name in ("one", "two"))
    assert one.rpartition(".")[2] != two.rpartition(".")[2]


def test_folders_may_be_links(tmp_path):
    """OUTPUT on another disk, and its states on a third one."""
    pytest.importorskip("matplotlib")
    for name in ("scratch", "states"):
        (tmp_path / name).mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "scratch")
    folder = tmp_path / "runs" / "first"
    folder.mkdir()
    (folder / "state").symlink_to(tmp_path / "states")
    run = Output(ClassificationConfig(data="elsewhere", output=str(folder), log_every=1, batch_size=4))
    with run.claimed():
        write_everything(run)
    assert {LOCK, "state", *FILES} <= set(os.listdir(tmp_path / "scratch" / "first"))
    assert os.listdir(tmp_path / "states") == [os.path.basename(STATE)]
    again = Output(ClassificationConfig(data="elsewhere", output=str(folder), resume=True))
    with again.claimed():
        assert newest_state(again.states, print).progress.step == 1


def test_a_signal_while_a_line_is_being_written_is_remembered():
    def tell(message):
        raise RuntimeError("reentrant call inside <_io.BufferedWriter>")

    with StopRequest(tell) as request:
        signal.raise_signal(signal.SIGTERM)
        assert request.signal == signal.SIGTERM


def test_a_compiler_that_a_signal_ends_ends_the_run_in_order():
    """Ctrl-C and `timeout` send theirs to the whole group; Jittor then raises a RuntimeError of a page."""
    for error, raised in ((RuntimeError("overcommit"), Stopped), (TrainingError("x"), TrainingError)):
        with pytest.raises(raised) as caught, StopRequest(print):
            signal.raise_signal(signal.SIGINT)
            raise error
    assert not isinstance(caught.value, Stopped)
    with pytest.raises(Stopped) as stopped, StopRequest(print):
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("overcommit")
    assert stopped.value.number == signal.SIGTERM
    with pytest.raises(RuntimeError, match=r"^alone$"), StopRequest(print):
        raise RuntimeError("alone")
