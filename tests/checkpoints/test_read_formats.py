"""Files written by PyTorch, safetensors, Jittor and numpy themselves: every element, bit for bit."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from jvan.checkpoints.names.wrappers import AVERAGED
from jvan.checkpoints.pickles.stand_ins import Inert
from jvan.checkpoints.reader import open_checkpoint, read_checkpoint
from jvan.checkpoints.tensor import LazyTensor

FORMATS = Path(__file__).parent.parent / "golden" / "formats"
FROM_TORCH = sorted(
    path
    for path in FORMATS.iterdir()
    if path.suffix != ".md" and "jittor" not in path.name and not path.name.startswith("expected")
)
TRAINING = [path for path in FROM_TORCH if "protocol" in path.name and "mmengine" not in path.name]


def expected(file: str) -> dict[str, np.ndarray]:
    with np.load(FORMATS / file) as archive:
        return dict(archive)


def assert_same(ours: dict, theirs: dict) -> None:
    assert sorted(ours) == sorted(theirs)
    for name, array in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape), name
        assert ours[name].tobytes() == array.tobytes(), name
        assert ours[name].flags.c_contiguous and ours[name].flags.writeable, name


def test_all_recorded_files_are_here():
    assert len(FROM_TORCH) == 15 and len(TRAINING) == 10


@pytest.mark.parametrize("path", FROM_TORCH, ids=lambda path: path.name)
def test_torch_and_safetensors(path):
    assert_same(read_checkpoint(path), expected("expected.npz"))


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.name)
def test_averaged_weights_are_chosen(path):
    assert_same(read_checkpoint(path, ema=True), expected("expected.npz"))


@pytest.mark.parametrize("file", ["jittor_model.pkl", "jittor_training.pkl"])
def test_jittor(file):
    assert_same(read_checkpoint(FORMATS / file), expected("expected_jittor.npz"))


@pytest.mark.parametrize(
    "file, found",
    [
        ("zip_protocol2.pth.tar", "torch-zip"),
        ("deflated.bin", "torch-zip"),
        ("legacy_protocol2.pth", "torch-legacy"),
        ("legacy_protocol4.pth", "torch-legacy"),
        ("plain.safetensors", "safetensors"),
        ("jittor_model.pkl", "jittor-pkl"),
        ("expected.npz", "npz"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".pth", ".npz"])
def test_content_decides_the_format(file, found, suffix, tmp_path):
    copy = tmp_path / f"weights{suffix}"
    copy.write_bytes((FORMATS / file).read_bytes())
    with open_checkpoint(copy) as checkpoint:
        assert checkpoint.format == found
        assert checkpoint.tensors()


def test_dtypes_are_those_of_the_file():
    with open_checkpoint(FORMATS / "zip_protocol2.pth.tar") as checkpoint:
        tensors = checkpoint.tensors()
    for name in ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int64", "uint8", "uint16", "bool"):
        assert tensors[name].dtype == name
    assert tensors["complex"].dtype == "complex64" and tensors["transposed"].shape == (10, 12)


def test_metadata_objects_become_inert():
    with open_checkpoint(FORMATS / "zip_protocol2.pth.tar") as checkpoint:
        tree, names = checkpoint.tree, checkpoint.globals
    assert {"argparse.Namespace", "pathlib.PosixPath", "torch.device", "__builtin__.set"} <= set(names)
    arguments = tree["args"]
    assert type(arguments) is Inert and arguments.name == "argparse.Namespace"
    assert arguments.state["lr"] == 1e-3 and arguments.state["size"] == (3, 224, 224)
    assert arguments.state["output"].name == "pathlib.PosixPath" and arguments.state["output"].args == ("runs", "1")
    assert arguments.state["dtype"].name == "torch.float16"
    assert tree["counts"] == {"a": 5, "b": 2, "r": 2, "c": 1, "d": 1} and tree["groups"] == {"decay": ["scalar"]}
    assert tree["last"] == [1, 2] and tree["epoch"] == 3


def test_metadata_arrays_are_lazy_tensors():
    with open_checkpoint(FORMATS / "zip_protocol4.pth.tar") as checkpoint:
        metric, history = checkpoint.tree["metric"], checkpoint.tree["history"]
        assert type(metric) is type(history) is LazyTensor
        assert metric.shape == () and metric.numpy() == 75.4
        assert history.numpy().tobytes() == np.linspace(0, 1, 60).tobytes()


@pytest.mark.parametrize("protocol", [2, 4])
def test_mmengine_logs_are_stand_ins(protocol):
    with open_checkpoint(FORMATS / f"mmengine_protocol{protocol}.pth") as checkpoint:
        log = checkpoint.tree["message_hub"]["log_scalars"]["train/loss"]
        assert type(log) is Inert and log.name == "mmengine.logging.history_buffer.HistoryBuffer"
        assert log.state["_log_history"].numpy().tolist() == list(range(50))
        assert log.state["statistics_methods"]["mean"].name.endswith("HistoryBuffer.mean")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrapped", [False, True])
def test_plain_pickles_of_arrays(protocol, wrapped, tmp_path):
    """What older Jittor code wrote: numpy arrays of every kind, small and large, at any protocol."""
    arrays = {
        "large": np.random.RandomState(0).standard_normal((70, 60, 20)).astype(np.float32),
        "fortran": np.asfortranarray(np.arange(600.0).reshape(20, 30)),
        "strided": np.arange(40)[::3],
        "big_endian": np.arange(5, dtype=">i4"),
        "half": np.arange(5, dtype=np.float16),
        "scalar": np.float32(2.5),
        "zero_d": np.array(3),
        "empty": np.zeros((0, 3)),
        "bool": np.array([True, False]),
        "complex": np.array([1 + 2j]),
    }
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"meta": {"epoch": 1}, "model": arrays} if wrapped else arrays, protocol))
    native = {name: np.asarray(array, np.asarray(array).dtype.newbyteorder("=")) for name, array in arrays.items()}
    assert_same(read_checkpoint(path), native)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(save, tmp_path):
    arrays = {
        "a.weight": np.arange(6, dtype=np.float16).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
        "big_endian": np.arange(5, dtype=">f8"),
        "scalar": np.array(7),
        "empty": np.zeros((3, 0), np.float32),
        "bool": np.array([[True], [False]]),
    }
    save(tmp_path / "weights.npz", **arrays)
    native = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()}
    assert_same(read_checkpoint(tmp_path / "weights.npz"), native)


def test_numbers_that_are_no_numbers_keep_their_bits(tmp_path):
    bits = np.array([0x7FC00001, 0xFF800001, 0x80000000, 0x7F800000, 1], np.uint32)
    np.savez(tmp_path / "bits.npz", x=bits.view(np.float32))
    assert read_checkpoint(tmp_path / "bits.npz")["x"].view(np.uint32).tolist() == bits.tolist()


def test_averaged_weights_that_are_not_there():
    with pytest.raises(ValueError, match="no averaged weights"):
        read_checkpoint(FORMATS / "plain.safetensors", ema=True)
    assert "state_dict_ema" in AVERAGED
