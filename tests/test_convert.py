"""`jvan convert` as a user runs it, on files that the original projects' code wrote."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from jvan import preprocessing
from jvan.checkpoints.names import origins
from jvan.checkpoints.reader import open_checkpoint, read_checkpoint
from jvan.checkpoints.state import load_state
from jvan.convert import INTERPOLATIONS, ORIGINS, main
from jvan.inspect import main as inspect

from .checkpoints.tiny_states import GOLDEN, assert_same, golden_tensors, random_tensors

OFFICIAL = GOLDEN / "official_tiny.pth.tar"


@pytest.mark.parametrize(
    "source, recipe, extra",
    [
        ("official_tiny.pth.tar", "official_tiny", []),
        ("official_tiny_legacy.pth.tar", "official_tiny", []),
        ("official_tiny_module.pth.tar", "official_tiny", []),
        ("mmpretrain_tiny.pth", "official_tiny", ["--origin", "mmpretrain"]),
        ("mmengine_tiny.pth", "official_tiny", ["--num-classes", "7"]),
        ("mmseg_tiny.pth", "mmseg_tiny", ["--origin", "mmseg"]),
        ("hf_tiny", "hf_tiny", []),
        ("hf_tiny_bin", "hf_tiny", []),
        ("hf_tiny_sharded", "hf_tiny", ["--origin", "huggingface"]),
    ],
)
def test_every_origin_becomes_jvans(tmp_path, capsys, source, recipe, extra):
    assert main([str(GOLDEN / source), str(tmp_path / "a.safetensors"), *extra]) == 0
    assert_same(read_checkpoint(tmp_path / "a.safetensors"), golden_tensors(recipe))
    out, err = capsys.readouterr()
    assert not err
    for text in (
        "sha256",
        "LayerNorm eps 1e-05" if "mmseg" in source else "LayerNorm eps 1e-06",
        "num_batches_tracked",
        "mean",
    ):
        assert text in out


@pytest.mark.parametrize("suffix", [".safetensors", ".pkl", ".pth", ".npz"])
@pytest.mark.parametrize("origin", ["official", "mmpretrain", "huggingface", "mmseg"])
def test_there_and_back_again(tmp_path, origin, suffix):
    """PyTorch file -> jvan's -> another project's -> jvan's: every bit and every fact is as it was."""
    source = OFFICIAL if origin != "mmseg" else GOLDEN / "mmseg_tiny.pth"
    first, foreign, last = (str(tmp_path / name) for name in ("a.safetensors", f"b{suffix}", "c.safetensors"))
    assert main([str(source), first]) == 0
    assert main([first, foreign, "--to-origin", origin]) == 0
    assert main([foreign, last]) == 0
    assert_same(read_checkpoint(last), read_checkpoint(first))
    assert load_state(last).metadata == load_state(first).metadata


def test_the_summary_as_json(tmp_path, capsys):
    assert main([str(GOLDEN / "mmseg_tiny.pth"), str(tmp_path / "a.pth"), "--to-origin", "mmseg", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["dropped"] == {
        "num_batches_tracked: BatchNorm's step counters": 15,
        "decode_head: not part of the backbone": 7,
        "auxiliary_head: not part of the backbone": 3,
    }
    assert (
        summary["bytes"] == os.path.getsize(summary["file"]) and summary["metadata_file"] == summary["file"] + ".json"
    )
    assert (summary["origin"], summary["to_origin"], summary["arch"]) == ("mmseg", "mmseg", "custom")
    assert summary["config"]["norm_eps"] == 1e-5 and summary["preprocessing"]["std"] == [0.229, 0.224, 0.225]
    assert len(read_checkpoint(summary["file"])) == summary["tensors"] == 162 + 14


def test_options_reach_the_file(tmp_path, capsys):
    target = str(tmp_path / "a.npz")
    assert (
        main([str(GOLDEN / "official_tiny_float16.pth"), target, "--dtype", "keep", "--drop-head", "--ln-eps", "1e-4"])
        == 0
    )
    state = load_state(target, dtype="keep")
    assert {array.dtype for array in state.tensors.values()} == {np.dtype("float16")}
    assert state.metadata.config.num_classes == 0 and state.metadata.config.norm_eps == 1e-4
    assert main([str(GOLDEN / "official_tiny_ema.pth.tar"), str(tmp_path / "b.npz"), "--ema"]) == 0
    plain = golden_tensors("official_tiny")["norm1.weight"]
    assert not np.array_equal(read_checkpoint(tmp_path / "b.npz")["norm1.weight"], plain)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["SRC", "a.tar"], "its suffix chooses the format: one of .safetensors, .pkl, .pth, .npz"),
        (["SRC", "a"], "its suffix chooses the format"),
        (["SRC"], "required: DST"),
        (["SRC", "a.pth", "--origin", "timm"], "invalid choice: 'timm'"),
        (["SRC", "a.pth", "--to-origin", "auto"], "invalid choice: 'auto'"),
        (["SRC", "a.pth", "--arch", "van_b9"], "invalid choice: 'van_b9'"),
        (["SRC", "a.pth", "--num-classes", "0"], "--drop-head leaves the head out"),
        (["SRC", "a.pth", "--num-classes", "ten"], "'ten' is no number of classes"),
        (["SRC", "a.pth", "--num-classes", "7", "--drop-head"], "not allowed with"),
        (["SRC", "a.pth", "--ln-eps", "2"], "'2' is no number between 0 and 1"),
        (["SRC", "a.pth", "--ln-eps", "nan"], "'nan' is no number between 0 and 1"),
        (["SRC", "a.pth", "--ln-eps", "x"], "'x' is no number between 0 and 1"),
    ],
)
def test_bad_usage(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main([str(OFFICIAL) if argument == "SRC" else argument for argument in arguments])
    assert stopped.value.code == 2 and message in capsys.readouterr().err and not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere.pth", "a.pth"], "nowhere.pth: no such file"),
        (["SRC", "nowhere/a.pth"], "does not exist; make it first"),
        (["SRC", "a.pth", "--origin", "mmseg"], "2 of 164 names are not mmseg's: head.weight, head.bias"),
        (["SRC", "a.pth", "--origin", "huggingface"], "164 of 164 names are not huggingface's"),
        (["SRC", "a.pth", "--arch", "van_b0"], "arch (--arch) says van_b0, but the tensors are those of a custom VAN"),
        (["SRC", "a.pth", "--num-classes", "10"], "num_classes 10 was asked for, but the file has a head of 7"),
        (["SRC", "a.pth", "--ema"], "averaged"),
        (["SRC", "a.pth", "--to-origin", "mmseg"], "mmseg has no name for head.weight, head.bias; drop the head"),
        ([str(GOLDEN / "oddities.pth"), "a.pth"], "no VAN's names"),
        ([str(GOLDEN / "chelsea_224x224.png"), "a.pth"], "chelsea_224x224.png"),
    ],
)
def test_a_failed_job_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main([str(OFFICIAL) if argument == "SRC" else argument for argument in arguments]) == 1
    out, err = capsys.readouterr()
    assert not out and len(err.splitlines()) == 1 and err.startswith("jvan convert: ") and message in err
    assert "oddities" not in arguments[0] or arguments[0] in err
    assert not os.listdir(tmp_path)


def test_an_existing_file_is_kept_unless_forced(tmp_path, capsys):
    target = tmp_path / "a.safetensors"
    target.write_bytes(b"precious")
    assert main([str(OFFICIAL), str(target)]) == 1
    assert "--force" in capsys.readouterr().err and target.read_bytes() == b"precious"
    assert main([str(OFFICIAL), str(target), "--force"]) == 0
    assert_same(read_checkpoint(target), golden_tensors("official_tiny"))


@pytest.mark.parametrize("kind", ["same", "link", "folder", "home"])
def test_the_source_is_never_overwritten(tmp_path, capsys, monkeypatch, kind):
    monkeypatch.setenv("HOME", str(tmp_path))
    source = tmp_path / "model.safetensors"
    shutil.copy(GOLDEN / "hf_tiny" / "model.safetensors", source)
    target = source
    if kind == "link":
        target = tmp_path / "link.safetensors"
        target.symlink_to(source)
    if kind == "home":
        target = "~/model.safetensors"
    before = source.read_bytes()
    assert main([str(tmp_path if kind == "folder" else source), str(target), "--force"]) == 1
    assert "is what would be converted" in capsys.readouterr().err and source.read_bytes() == before


def test_a_name_that_is_no_text_goes_into_the_file_as_an_escape(tmp_path):
    """In a process of its own: the terminal's encoding is ASCII."""
    source = os.path.join(os.fsencode(tmp_path), b"caf\xe9.safetensors")
    shutil.copy(OFFICIAL, source)
    for target in ("a.safetensors", "a.pth"):
        command = [sys.executable, "-m", "jvan.convert", source, tmp_path / target]
        ran = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False
        )
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        with open_checkpoint(tmp_path / target) as made:
            assert os.fsencode(made.metadata.source) == b"caf\xe9.safetensors"


def test_weights_that_are_not_finite_are_noted(tmp_path, capsys):
    tensors = random_tensors()
    tensors["norm1.bias"][0] = np.nan
    np.savez(tmp_path / "a.npz", **tensors)
    assert main([str(tmp_path / "a.npz"), str(tmp_path / "b.npz")]) == 0
    assert "1 numbers in 1 tensors are NaN or infinite: norm1.bias" in capsys.readouterr().out
    assert_same(read_checkpoint(tmp_path / "b.npz"), tensors)


def test_the_commands_origins_are_the_tables():
    assert tuple(origins.ORIGINS) == ORIGINS


@pytest.mark.parametrize("module", [["jvan.convert"], ["jvan", "convert"]])
def test_help_imports_nothing_heavy(module):
    code = "import runpy, sys; sys.argv[1:] = sys.argv[2:]; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
    code = f"import sys, atexit; atexit.register(lambda: sys.stderr.write(str('numpy' in sys.modules)))\n{code}"
    arguments = [module[0], module[0], *module[1:], "--help"]
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "config.json is not written" in result.stdout and result.stderr == "False"


def test_weights_under_another_key_and_another_prefix(tmp_path, capsys):
    tensors = random_tensors()
    named = {f"module._orig_mod.{name}": array for name, array in tensors.items()}
    source, target = tmp_path / "x.pkl", tmp_path / "x.safetensors"
    source.write_bytes(pickle.dumps({"net": {**named, "loss.weight": np.ones(3)}, "old": {"w": np.ones(3)}}, 4))
    options = [str(source), str(target), "--force"]
    assert main(options) == 1 and "choose one with entry (--entry)" in capsys.readouterr().err
    assert main([*options, "--entry", "net"]) == 1
    assert "1 of 165 names" in (message := capsys.readouterr().err) and "--prefix module. leaves them out" in message
    assert main([*options, "--entry", "net", "--prefix", "module"]) == 0
    assert "dropped   1 not below module: as asked" in capsys.readouterr().out
    assert_same(load_state(target).tensors, tensors)
    assert inspect([str(source), "--entry", "net", "--prefix", "module"]) == 0
    assert "origin official names, custom" in capsys.readouterr().out


def test_preprocessing_is_stated_by_hand(tmp_path, capsys):
    stated = ["--mean", "0.1,0.2,0.3", "--std=.4,.5,.6", "--crop-pct", "0.95", "--img-size", "288"]
    target = tmp_path / "a.safetensors"
    assert main([str(OFFICIAL), str(target), *stated, "--interpolation", "bilinear"]) == 0
    wanted = preprocessing.Preprocessing(288, 0.95, "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert load_state(target).metadata.preprocessing == wanted
    assert main([str(target), str(tmp_path / "b.pkl"), "--img-size", "224"]) == 0  # jvan's own metadata, too
    assert load_state(tmp_path / "b.pkl").metadata.preprocessing.size == 224
    capsys.readouterr()
    assert main([str(OFFICIAL), str(target), "--force", "--mean", "0.5"]) == 1
    assert "mean (--mean) has 1 numbers; the network has 3 channels" in capsys.readouterr().err
    assert main([str(OFFICIAL), str(target), "--force", "--std", "0.5"]) == 1
    assert "std (--std) has 1 numbers; the network has 3 channels" in capsys.readouterr().err
    assert INTERPOLATIONS == preprocessing.INTERPOLATIONS


@pytest.mark.parametrize(
    "option",
    [
        "--mean=",
        "--mean=a,b,c",
        "--std=nan,1,1",
        "--crop-pct=2",
        "--img-size=0",
        "--img-size=x",
        "--interpolation=box",
        "--img-size=4097",
        "--crop-pct=0.01",
    ],
)
def test_preprocessing_that_is_none(option, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(OFFICIAL), str(tmp_path / "a.pkl"), option])
    assert stop.value.code == 2 and option.split("=")[0] in capsys.readouterr().err
