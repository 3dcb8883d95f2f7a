"""What `python -m tools.gpu_check` makes of its steps' documents: verdicts on the goals, a summary, one file of everything."""

import json
import tarfile

import pytest

from tools.gpu_check import summary as gpu_summary
from tools.gpu_check.verdicts import verdicts

SLOW = {"torch": 0.5, "torch-channels-last": 0.6, "torch-graphs": 0.8}
FAST = {"torch-compile": 0.9, "torch-compile-graphs": 0.95}


def case(ratios, mode="infer", dtype="float16", suffix="-fp16", **ours):
    """A case as a step of the benchmark writes it: jvan and PyTorch's modes, each with jvan's time over its."""
    same = {"dtype": dtype, "status": "ok", "wrong": False, "reason": None, "against": f"jvan{suffix}"}
    engines = [{"engine": f"{name}{suffix}", **same, "ratio": ratio} for name, ratio in ratios.items()]
    engines.insert(0, {"engine": f"jvan{suffix}", **same, "ratio": 1.0, **ours})
    batch = 64 if mode == "infer" else 128
    return {"arch": "van_b0", "mode": mode, "batch_size": batch, "size": [224, 224], "engines": engines}


def speed(first, second=None):
    """The one verdict that something was measured for, or that a note was made on."""
    found = {"speed": {"cases": [first]}, **({"speed-compiled": {"cases": [second]}} if second else {})}
    (verdict,) = [v for v in verdicts(found) if v.value is not None or v.note]
    return verdict


def test_the_fastest_of_all_modes_decides():
    verdict = speed(case(SLOW), case(FAST))
    assert (verdict.value, verdict.met) == (0.95, True) and "torch-compile-graphs" in verdict.note
    assert verdict.line == "met: van_b0, infer, batch 64, float16: jvan ÷ PyTorch's fastest: 0.95 (below 1); torch-compile-graphs"  # fmt: skip
    verdict = speed(case(SLOW), case({**FAST, "torch-compile": 1.0}))
    assert (verdict.value, verdict.met) == (1.0, False) and verdict.note == "torch-compile"


def test_below_one_is_open_until_every_mode_was_measured():
    verdict = speed(case(SLOW))
    assert (verdict.value, verdict.met) == (0.8, None)
    assert verdict.note == "torch-graphs; without torch-compile, torch-compile-graphs"
    assert speed(case({**SLOW, "torch": 1.2})).met is False, "slower than one is slower than the fastest"


def test_what_does_not_count():
    second = case({**FAST, "torch-graphs": 3.0})
    second["engines"][-1]["wrong"] = True
    assert speed(case(SLOW), second).value == 0.95, "other outputs"
    second["engines"][-1].update(wrong=False, against="jvan")
    assert speed(case(SLOW), second).value == 0.95, "against jvan in another precision"
    second["engines"][-1].update(against="jvan-fp16", engine="jittor-fp16")
    assert speed(case(SLOW), second).value == 0.95, "not PyTorch"
    small = {**case({"torch": 9.0}), "size": [32, 32]}
    assert all(v.value is None for v in verdicts({"speed": {"cases": [small]}}))


def test_a_wrong_jvan_meets_nothing():
    verdict = speed(case(SLOW, wrong=True), case(FAST))
    assert verdict.met is None and verdict.note.startswith("jvan: wrong")
    failed = case({}, status="failed", reason="out of memory")
    assert speed(failed).value is None and speed(failed).note == "jvan: out of memory"


def test_training_has_modes_of_its_own():
    names = ("torch-channels-last", "torch-graphs", "torch-compile", "torch-compile-graphs")
    verdict = speed(case(dict.fromkeys(names, 0.9), "train", "bfloat16", "-bf16"))
    assert verdict.met is True and verdict.goal.startswith("van_b0, train, batch 128, bfloat16")


def row(of_copy, shape=(64, 56, 56, 32), kernel="depthwise", tile=None):
    given = {} if of_copy is None else {"of_copy": of_copy}
    return {"kernel": kernel, "size": 5, "dilation": 1, "shape": list(shape), "dtype": "float32", "tile": tile, **given}


@pytest.mark.parametrize(
    ("rows", "value", "met"),
    [
        ([row(0.9), row(0.7, (64, 28, 28, 64))], 0.7, True),
        ([row(0.9), row(0.69, (64, 28, 28, 64))], 0.69, False),
        ([row(0.9), row(0.1, tile={"tile_height": 7})], 0.9, True),  # a cut that is not the kernel's own choice
        ([row(0.9), row(0.1, (64, 7, 7, 256))], 0.9, True),  # a map that the goal is not about
        ([row(0.9), row(None)], 0.0, False),  # it refused
        ([row(0.9), row(0.1, kernel="layer_norm")], 0.9, True),
        ([], None, None),
    ],
)
def test_bandwidth(rows, value, met):
    (verdict,) = [v for v in verdicts({"bandwidth": {"rows": rows}}) if "bandwidth" in v.goal]
    assert (verdict.value, verdict.met) == (value, met)


def test_parity():
    rows = {"plain float32": {"error": 2e-3}, "folded float32": {"error": 1e-3}, "folded float16": {"error": 1.9e-2}}
    found = {v.goal: v.met for v in verdicts({"parity": {"results": {"van_b2": rows}}}) if "logits" in v.goal}
    assert [found[f"van_b2, {name}: logits against the CPU's"] for name in rows] == [False, True, True]
    assert found["van_b0, folded float16: logits against the CPU's"] is None


def test_summary(tmp_path):
    """It has what earlier runs found, and takes no dry run's numbers for measured ones."""
    (tmp_path / "environment.json").write_text(json.dumps({"ok": True, "gpu": "a GPU"}))
    (tmp_path / "speed.json").write_text(json.dumps({"cases": [case({"torch-graphs": 1.5})]}))
    (tmp_path / "bandwidth.json").write_text(json.dumps({"rows": [row(0.9)], "dry_run": True}))
    (tmp_path / "parity.json").write_text('{"results": ')
    gpu_summary.write(tmp_path, {"environment": "ok", "kernels": "stopped"})
    summary = gpu_summary.write(tmp_path, {"kernels": "ok"})
    assert json.loads((tmp_path / gpu_summary.NAME).read_text()) == summary
    assert summary["steps"] == {"environment": "ok", "kernels": "ok"} and summary["machine"]["gpu"] == "a GPU"
    said = gpu_summary.lines(summary, {"kernels": "ok"})
    assert said[0].startswith("missed: van_b0, infer, batch 64, float16") and said[-1] == "kernels: ok"
    assert said[1] == "goals: 0 met, 1 missed, 26 open" and len(said) == 3


def test_everything_in_one_file(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("speed.json", "speed.txt", "speed.log", "emulated-1.so"):
        (out / name).write_text(name)
    gpu_summary.pack(out, tmp_path / "found.tar.gz")
    with tarfile.open(tmp_path / "found.tar.gz") as archive:
        assert sorted(archive.getnames()) == ["speed.json", "speed.log", "speed.txt"]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["found.tar.gz"]
