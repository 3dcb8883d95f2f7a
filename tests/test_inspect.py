"""`jvan.inspect`: what a file holds, also where it is unsafe; nothing runs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jvan.checkpoints.metadata import Metadata
from jvan.checkpoints.published import catalogue
from jvan.checkpoints.published.catalogue import Entry
from jvan.inspect import inspect_checkpoint, main
from jvan.variants import variant_config

from .checkpoints.crafted import name, numpy_array, pickled, safetensors, sealed, state, text, torch_tensor, torch_zip

GOLDEN = Path(__file__).parent / "golden"
EVIL = name("posix", "system") + b"(" + text("touch canary") + b"tR"


def shown(capsys, *argv) -> tuple[int, str, str]:
    status = main([str(arg) for arg in argv])
    out, err = capsys.readouterr()
    return status, out, err


def test_an_official_file(capsys):
    path = GOLDEN / "official_tiny.pth.tar"
    status, out, err = shown(capsys, path)
    assert (status, err) == (0, "")
    assert f"{path}: torch-zip, {path.stat().st_size:,} bytes" in out
    assert hashlib.sha256(path.read_bytes()).hexdigest() in out
    assert "origin official names" in out and "global argparse.Namespace" in out and "REFUSED" not in out
    assert "block1.0.attn.spatial_gating_unit.conv_spatial.weight" in out and "4x1x7x7" in out


def test_the_same_as_json(capsys):
    status, out, _ = shown(capsys, GOLDEN / "official_tiny.pth.tar", "--json")
    report = json.loads(out)
    assert status == 0 and report["format"] == "torch-zip" and report["origin"] == "official"
    assert report["refused"] == [] and report["tensors"]["head.bias"] == {"shape": [7], "dtype": "float32"}
    shapes = {n: t["shape"] for n, t in report["tensors"].items()}
    learned = [n for n in shapes if not n.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert report["parameters"] == sum(int(np.prod(shapes[n])) for n in learned)
    assert report["parameters"] + report["statistics"] == sum(int(np.prod(s)) for s in shapes.values())


@pytest.mark.parametrize(
    "file, origin",
    [
        ("mmpretrain_tiny.pth", "mmpretrain"),
        ("mmseg_tiny.pth", "mmseg"),
        ("hf_tiny", "huggingface"),
        ("hf_tiny_sharded", "huggingface"),
        ("official_tiny_legacy.pth.tar", "official"),
        ("oddities.pth", None),
    ],
)
def test_origins(file, origin):
    report = inspect_checkpoint(GOLDEN / file)
    assert report["origin"] == origin and len(report["tensors"]) > 10
    assert bool(report["problem"]) == (origin is None)


def test_all_files_of_a_folder_are_hashed():
    files = inspect_checkpoint(GOLDEN / "hf_tiny_sharded")["files"]
    assert len(files) == 3
    for file in files:
        assert file["sha256"] == hashlib.sha256(Path(file["path"]).read_bytes()).hexdigest()


def test_averaged_weights():
    path = GOLDEN / "official_tiny_ema.pth.tar"
    assert inspect_checkpoint(path)["entries"]["state_dict_ema"].startswith("a dict of")
    assert inspect_checkpoint(path, ema=True)["origin"] == "official"


def test_metadata_and_preprocessing(tmp_path, capsys):
    metadata = Metadata(variant_config("van_b0", num_classes=2), labels=("a", "b"), source="x.pth", note="untrained")
    row = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    path = safetensors(tmp_path / "x", {"__metadata__": {"jvan": metadata.to_json(), "format": "pt"}, **row})
    status, out, _ = shown(capsys, path)
    assert status == 0
    for words in (
        "van_b0, 2 classes, labels 2 of its own",
        "note: untrained",
        "size 224, crop 0.9, bicubic",
        "format: pt",
    ):
        assert words in out
    assert inspect_checkpoint(path)["metadata"]["source"] == "x.pth"


@pytest.mark.parametrize("kind", ["zip", "pkl"])
def test_an_unsafe_file_is_shown_and_refused(kind, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil"
    if kind == "zip":
        torch_zip(path, state(state_dict=state(w=torch_tensor()), x=EVIL))
    else:
        path.write_bytes(sealed(pickled(state(model=state(w=numpy_array()), x=EVIL))))
    status, out, err = shown(capsys, path)
    assert status == 1
    assert "global posix.system  REFUSED" in out and "float32   2" in out
    assert err.startswith(f"jvan inspect: {path}: unsafe, it asks for posix.system") and err.count("\n") == 1
    status, out, _ = shown(capsys, path, "--json")
    assert status == 1 and json.loads(out)["refused"] == ["posix.system"]
    assert os.listdir(tmp_path) == ["evil"]


def test_words_from_a_file_cannot_drive_the_terminal(tmp_path, capsys):
    body = state(state_dict=b"}(" + text("w\x1b[2J\nfake line") + torch_tensor() + b"u", args=name("x\x1b[31m", "y"))
    status, out, err = shown(capsys, torch_zip(tmp_path / "x.pth", body))
    assert status == 1 and "\x1b" not in out + err and "\nfake" not in out
    assert r"w\x1b[2J\nfake line" in out and r"x\x1b[31m.y" in out


def test_a_file_without_weights_is_shown(tmp_path, capsys):
    status, out, _ = shown(
        capsys, torch_zip(tmp_path / "x.pth", state(net=state(w=torch_tensor(), n=b"N"), epoch=b"K\x05"))
    )
    assert status == 0 and "problem: " in out and "holds no state dict" in out
    assert "entry net: a dict of 2, 1 tensors in it" in out and "entry epoch: int 5" in out


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\3\4", b"\x80\x04"])
def test_damaged_files(content, tmp_path, capsys):
    (tmp_path / "x").write_bytes(content)
    status, out, err = shown(capsys, tmp_path / "x")
    assert (status, out) == (1, "") and err.startswith(f"jvan inspect: {tmp_path}/x: ") and err.count("\n") == 1


def test_a_missing_file(tmp_path, capsys):
    status, out, err = shown(capsys, tmp_path / "x")
    assert (status, out, err) == (1, "", f"jvan inspect: {tmp_path / 'x'}: no such file\n")


def test_names_of_the_catalogue(capsys, monkeypatch):
    path = GOLDEN / "official_tiny.pth.tar"
    monkeypatch.setattr("jvan.checkpoints.published.resolve.obtain", lambda entry: path)
    status, out, _ = shown(capsys, "van_b0.in1k")
    assert status == 0 and f"{path}: torch-zip" in out
    status, _, err = shown(capsys, "van_b9.in1k")
    assert status == 1 and "van_b9.in1k" in err and err.count("\n") == 1


@pytest.mark.parametrize("whole", [False, True])
def test_that_eight_digits_of_a_hash_match_is_said(whole, capsys, monkeypatch):
    path = GOLDEN / "official_tiny.pth.tar"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = {"sha256": digest} if whole else {"sha256_prefix": digest[:8]}
    entry = Entry(name="van_b0.test", arch="van_b0", file=path.name, urls=(), origin="official", **known)
    monkeypatch.setattr(catalogue, "catalogue", lambda: {entry.name: entry})
    status, out, _ = shown(capsys, path)
    assert status == 0
    assert ("eight digits of it are published, for van_b0.test, and match" in out) is not whole


def test_usage(capsys):
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "FILE" in capsys.readouterr().err


def test_neither_torch_nor_jittor_nor_the_files_modules_are_imported(tmp_path):
    """In a process of its own: what does reading import?"""
    path = torch_zip(tmp_path / "x.pth", state(state_dict=state(w=torch_tensor()), x=name("webbrowser", "open")))
    code = f"import sys, jvan.inspect\njvan.inspect.main([{str(path)!r}])\nprint(sorted(sys.modules))"
    root = Path(__file__).parent.parent
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root, timeout=120
    )
    modules = ran.stdout.splitlines()[-1]
    for absent in ("'torch'", "'jittor'", "'safetensors'", "'webbrowser'", "'numpy.testing'"):
        assert absent not in modules
    assert "'jvan.checkpoints.pickles.unpickle'" in modules
