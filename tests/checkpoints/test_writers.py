"""Written files, read by other readers than jvan's, and what is left behind when writing fails."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import stat
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from jvan.checkpoints import writers
from jvan.checkpoints.formats.torch_writer import STORAGES
from jvan.checkpoints.metadata import Metadata
from jvan.checkpoints.names.origins import ORIGINS
from jvan.checkpoints.reader import read_checkpoint
from jvan.checkpoints.state import State, load_state
from jvan.checkpoints.writers import FLOATS, SUFFIXES, bytes_equal, save_state
from jvan.errors import CheckpointError

from .pickle_reader import read_pth
from .recorded_names import recorded
from .tiny_states import CONFIG, LABELS, METADATA, assert_same, random_tensors, tiny_state

BATCH_NORMS = 14  # of the small network: 4 patch embeddings and two for each of its 5 blocks
WRAPPERS = {"official": ["state_dict"], "mmpretrain": ["meta", "state_dict"], "mmseg": ["meta", "state_dict"]}


def headless() -> State:
    config = replace(METADATA.config, num_classes=0)
    tensors = {name: array for name, array in random_tensors().items() if not name.startswith("head.")}
    return State(tensors, replace(METADATA, config=config, labels=None))


def recorded_pairs(origin: str) -> dict[str, str]:
    """Official name -> foreign name with BatchNorm's counters, as the projects have them, cut to the small network."""
    small = set(random_tensors())
    found = recorded("van_b0")
    pairs = {name: name for name in found["official"]}
    if origin == "mmseg":  # OpenMMLab's own class has a plain layer where the authors' has a module around one
        pairs = {name: name.replace(".mlp.dwconv.dwconv.", ".mlp.dwconv.") for name in pairs}
    if origin == "mmpretrain":
        pairs = found["mmpretrain"]
    if origin == "huggingface":
        pairs = {ours: theirs for theirs, ours in found["huggingface_to_official"].items()}
    return {
        ours: theirs for ours, theirs in pairs.items() if ours.replace("num_batches_tracked", "running_var") in small
    }


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_there_and_back(tmp_path, suffix, origin, dtype):
    state = headless() if origin == "mmseg" else tiny_state()
    state = replace(state, tensors={name: array.astype(dtype) for name, array in state.tensors.items()})
    written = save_state(state, tmp_path / f"weights{suffix}", to_origin=origin)
    back = load_state(written.path, dtype="keep")
    assert_same(back.tensors, state.tensors)
    assert list(back.tensors) == list(state.tensors) and back.metadata == state.metadata
    assert written.size == written.path.stat().st_size
    assert sorted(os.listdir(tmp_path)) == sorted(p.name for p in (written.path, written.metadata_path) if p)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -0.0, 1e-45])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_bit_survives(tmp_path, suffix, value):
    state = tiny_state()
    state.tensors["norm1.bias"][:] = value
    path = save_state(state, tmp_path / f"weights{suffix}").path
    assert read_checkpoint(path)["norm1.bias"].tobytes() == state.tensors["norm1.bias"].tobytes()


@pytest.mark.parametrize("origin", ORIGINS)
def test_pth_is_what_pytorch_writes(tmp_path, origin):
    state = headless() if origin == "mmseg" else tiny_state()
    saved = read_pth(save_state(state, tmp_path / "weights.pth", to_origin=origin).path)
    for key in WRAPPERS.get(origin, [])[:-1]:
        assert saved[key] == {}
    if origin in WRAPPERS:
        assert list(saved) == WRAPPERS[origin]
        saved = saved["state_dict"]
    assert type(saved) is OrderedDict
    pairs = {ours: theirs for ours, theirs in recorded_pairs(origin).items() if origin != "mmseg" or "head" not in ours}
    counters = [theirs for ours, theirs in pairs.items() if ours.endswith("num_batches_tracked")]
    assert len(counters) == BATCH_NORMS
    wanted = {pairs[ours]: array for ours, array in state.tensors.items()}
    wanted.update({name: np.zeros((), np.int64) for name in counters})
    if origin == "huggingface":
        wanted["van.layernorm.weight"], wanted["van.layernorm.bias"] = np.ones(16, "f4"), np.zeros(16, "f4")
        assert set(wanted) == {n for n in recorded("van_b0")["huggingface"] if n in wanted}
    assert_same(saved, wanted)


def test_hugging_face_without_a_head(tmp_path):
    saved = read_pth(save_state(headless(), tmp_path / "weights.pth", to_origin="huggingface").path)
    assert (
        set(saved) <= set(recorded("van_b0")["huggingface_base"]) and saved["layernorm.weight"].tolist() == [1.0] * 16
    )
    assert len(saved) == len(headless().tensors) + BATCH_NORMS + 2


def test_pth_keeps_the_order_of_a_module(tmp_path):
    saved = read_pth(save_state(tiny_state(), tmp_path / "weights.pth").path)["state_dict"]
    assert list(saved) == [name for name in recorded_pairs("official") if name in saved]


def test_pkl_is_what_jittor_writes(tmp_path):
    state = tiny_state()
    data = save_state(state, tmp_path / "weights.pkl").path.read_bytes()
    assert data.endswith(b"HCAJSLHD") and data[-28:-8] == hashlib.sha1(data[:-28]).digest() and data[:2] == b"\x80\x04"
    found = pickle.loads(data[:-28])
    assert_same(found, state.tensors)
    assert all(array.flags.writeable and array.flags.c_contiguous for array in found.values())


def test_jittor_reads_its_pkl(tmp_path):
    import jittor as jt

    state = tiny_state()
    path = str(save_state(state, tmp_path / "weights.pkl").path)
    assert_same(jt.load(path), state.tensors)
    module = jt.nn.Linear(16, 7)
    holder = jt.nn.Module()
    holder.head = module
    small = State({n: a for n, a in state.tensors.items() if n.startswith("head.")}, METADATA)
    holder.load(str(save_state(small, tmp_path / "head.pkl").path))
    assert np.array_equal(module.weight.numpy(), state.tensors["head.weight"])


def test_safetensors_is_read_by_its_own_library(tmp_path):
    state = tiny_state()
    path = save_state(state, tmp_path / "weights.safetensors").path
    assert_same(load_file(path), state.tensors)
    with safe_open(path, "numpy") as file:
        assert list(file.metadata()) == ["jvan"] and Metadata.from_json(file.metadata()["jvan"]) == METADATA


def test_safetensors_for_transformers_say_their_framework(tmp_path):
    path = save_state(tiny_state(), tmp_path / "model.safetensors", to_origin="huggingface").path
    with safe_open(path, "numpy") as file:
        assert file.metadata()["format"] == "pt"
    assert {"van.layernorm.weight", "van.encoder.stages.0.embeddings.normalization.num_batches_tracked"} <= set(
        load_file(path)
    )


def test_npz_is_read_by_numpy(tmp_path):
    state = tiny_state()
    with np.load(save_state(state, tmp_path / "weights.npz").path, allow_pickle=False) as file:
        assert_same(dict(file), state.tensors)


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".npz"])
def test_metadata_lie_beside(tmp_path, suffix):
    written = save_state(tiny_state(), tmp_path / f"weights{suffix}")
    assert written.metadata_path == tmp_path / f"weights{suffix}.json"
    document = json.loads(written.metadata_path.read_text(encoding="utf-8"))
    assert document["labels"] == list(LABELS) and document["config"]["depths"] == [1, 1, 2, 1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_input_gives_the_same_bytes(tmp_path, suffix):
    first = save_state(tiny_state(), tmp_path / f"a{suffix}").path.read_bytes()
    assert save_state(tiny_state(), tmp_path / f"b{suffix}").path.read_bytes() == first


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_existing_file_is_kept(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"precious")
    with pytest.raises(CheckpointError, match=r"exists and is kept; pass --force"):
        save_state(tiny_state(), path)
    assert contents(tmp_path) == {path.name: b"precious"}
    save_state(tiny_state(), path, force=True)
    assert_same(load_state(path).tensors, random_tensors())


def test_existing_metadata_are_kept(tmp_path):
    (tmp_path / "weights.pth.json").write_bytes(b"precious")
    with pytest.raises(CheckpointError, match=r"weights\.pth\.json exists"):
        save_state(tiny_state(), tmp_path / "weights.pth")
    assert contents(tmp_path) == {"weights.pth.json": b"precious"}


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["_write", "compare", "flush", "_move", "os.replace", "second os.replace"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failure_leaves_everything_as_it_was(tmp_path, monkeypatch, suffix, step, failure):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"precious")
    if suffix != ".safetensors":
        (tmp_path / f"weights{suffix}.json").write_bytes(b"its metadata")
    before = contents(tmp_path)
    calls = []
    target, name = (os, "replace") if "os.replace" in step else (writers, step)
    genuine = getattr(target, name)

    def failing(*arguments):
        calls.append(arguments)
        if step.startswith("second") and len(calls) < 2 and suffix != ".safetensors":
            return genuine(*arguments)
        raise failure

    monkeypatch.setattr(target, name, failing)
    with pytest.raises(type(failure)):
        save_state(tiny_state(), path, force=True)
    assert calls and contents(tmp_path) == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_new_file_that_fails_leaves_nothing(tmp_path, monkeypatch, suffix):
    genuine = os.replace
    fails = tmp_path / f"weights{suffix}"

    def failing(source, target):
        if target == fails:
            raise OSError(errno.EIO, "Input/output error")
        genuine(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="Input/output"):
        save_state(tiny_state(), fails)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("what", ["tensor", "name", "metadata"])
def test_a_file_that_reads_back_otherwise_is_not_kept(tmp_path, monkeypatch, suffix, what):
    write = writers._write

    def wrong(path, suffix, tensors, metadata, origin):
        tensors = {name: array.copy() for name, array in tensors.items()}
        if what == "tensor":
            tensors["norm4.bias"].view(np.uint8)[0] ^= 1
        elif what == "name":
            del tensors["norm4.bias"]
        else:
            metadata = replace(metadata, note="another")
        write(path, suffix, tensors, metadata, origin)

    monkeypatch.setattr(writers, "_write", wrong)
    if what == "metadata" and suffix != ".safetensors":
        save_state(tiny_state(), tmp_path / f"weights{suffix}")  # its metadata are in the other file
        return
    with pytest.raises(CheckpointError, match=r"does not read back as it was written.*(norm4\.bias|metadata)"):
        save_state(tiny_state(), tmp_path / f"weights{suffix}")
    assert contents(tmp_path) == {}


FULL_DISK = """
import resource, sys
from tests.checkpoints.tiny_states import tiny_state
from jvan.checkpoints.writers import save_state
from jvan._cli import command
def main(argv):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    save_state(tiny_state(), argv[0], force=True)
sys.exit(command(main)(sys.argv[1:]))
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk(tmp_path, suffix):
    """The kernel refuses to let the file grow, as it does when the disk is full."""
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"precious")
    result = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, timeout=120)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result.stderr
    assert "arge" in result.stderr and str(tmp_path) in result.stderr and contents(tmp_path) == {path.name: b"precious"}


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "real.npz", tmp_path / "link.npz"
    target.write_bytes(b"old")
    link.symlink_to(target)
    save_state(tiny_state(), link, force=True)
    assert link.is_symlink() and os.path.samefile(link, target) and target.stat().st_size > 1000


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_permissions_are_the_users_default(tmp_path, suffix):
    (tmp_path / "plain").touch()
    path = save_state(tiny_state(), tmp_path / f"weights{suffix}").path
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize(
    "name, message",
    [
        ("weights.tar", "use one of .safetensors, .pkl, .pth, .npz"),
        ("weights", "use one of"),
        ("nowhere/weights.pth", "does not exist; make it first"),
        ("folder.pth", "is no regular file"),
    ],
)
def test_targets_that_cannot_be_written(tmp_path, name, message):
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(CheckpointError, match=message):
        save_state(tiny_state(), tmp_path / name, force=True)
    assert os.listdir(tmp_path) == ["folder.pth"]


def test_only_floating_point_is_written(tmp_path):
    state = tiny_state()
    state.tensors["norm1.bias"] = np.zeros(4, np.int32)
    with pytest.raises(CheckpointError, match=r"norm1\.bias \(int32\)"):
        save_state(state, tmp_path / "weights.pth")
    assert set(FLOATS) < set(STORAGES)


def test_arrays_in_other_orders_are_written_right(tmp_path):
    state = tiny_state()
    odd = {n: np.asfortranarray(a) if i % 2 else a[::1].astype(">f4") for i, (n, a) in enumerate(state.tensors.items())}
    for suffix in SUFFIXES:
        path = save_state(replace(state, tensors=odd), tmp_path / f"weights{suffix}").path
        assert_same(load_state(path).tensors, state.tensors)


def test_bits_are_compared():
    assert bytes_equal(np.float32([np.nan]), np.float32([np.nan]))
    assert not bytes_equal(np.float32([0.0]), np.float32([-0.0]))
    assert bytes_equal(np.zeros((0, 3)), np.zeros((0, 3))) and bytes_equal(np.int64(0)[()], np.zeros((), np.int64))


TORCH = """
import sys, torch
assert hasattr(torch, "_C")
import numpy as np
saved = torch.load(sys.argv[1], weights_only=True)["state_dict"]
np.savez(sys.argv[2], **{name: tensor.numpy() for name, tensor in saved.items()})
"""


def test_pytorch_reads_pth(tmp_path):
    """In a process of its own; JVAN_TORCH_PYTHON names an interpreter that has PyTorch."""
    python = os.environ.get("JVAN_TORCH_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import torch; torch._C"], capture_output=True).returncode:
        pytest.skip("no interpreter with PyTorch; set JVAN_TORCH_PYTHON")
    path = save_state(tiny_state(), tmp_path / "weights.pth").path
    subprocess.run([python, "-c", TORCH, path, tmp_path / "out.npz"], check=True, timeout=120)
    with np.load(tmp_path / "out.npz") as file:
        assert_same({n: file[n] for n in file.files if "tracked" not in n}, random_tensors(config=CONFIG))
        assert sum("tracked" in name for name in file.files) == BATCH_NORMS
