"""The command: its options, its report, its exit status."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from jvan import benchmark
from jvan.benchmarking import engines, plot, report, rounds

from .benchmarking.fakes import fake

ROOT = Path(__file__).parents[1]
ENTRY = {
    "engine", "dtype", "status", "reason", "median_ms", "pictures_per_s", "gflops", "of_ceiling", "ratio", "ratio_min",
    "ratio_max", "against", "peak_mb", "import_s", "first_s", "rounds_ms", "versions", "notes", "difference",
    "tolerance", "wrong", "operators",
}  # fmt: skip


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Fakes in the places of jvan, torch and openvino; set(torch={…}) gives them faults."""
    diary = tmp_path / "diary"
    monkeypatch.setattr(rounds, "PRODUCT", fake("product", diary, 0.5))
    monkeypatch.setattr(benchmark, "_networks", lambda options: _tiny(options))

    def set_up(**faults):
        monkeypatch.setitem(engines.JVAN, "float32", fake("jvan", diary, 0.25, **faults.get("jvan", {})))
        monkeypatch.setattr(
            engines, "PEERS", {n: fake(n, diary, 0.5, **faults.get(n, {})) for n in ("torch", "openvino")}
        )

    set_up()
    return set_up


def _tiny(options):
    from jvan.benchmarking.machine import random_weights

    from .benchmarking.fakes import TINY

    return {TINY: lambda: random_weights(TINY)}


def run(capsys, *argv):
    status = benchmark.main(["--rounds", "2", "--size", "32", *argv])
    out, err = capsys.readouterr()
    return status, out, err


def test_help_is_instant():
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "jvan.benchmark", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "--against" in done.stdout
    assert time.monotonic() - begin < 10
    for heavy in ("numpy", "jittor", "matplotlib", "torch"):
        assert f"| {heavy}\n" not in done.stderr.replace("  ", "")


def test_table(fakes, capsys):
    status, out, err = run(capsys, "--batch-size", "1", "4")
    assert status == 0
    assert "custom, 32×32, batch 1, inference" in out and "custom, 32×32, batch 4, inference" in out
    heading, *rows = out.split("\n\n")[1].splitlines()[1:5]
    assert heading.split()[:5] == ["engine", "ms", "pictures/s", "jvan", "÷"]
    assert [row.split()[:4] for row in rows] == [
        ["jvan", "250.0", "4.0", "1.00"],
        ["torch", "500.0", "2.0", "0.50"],
        ["openvino", "500.0", "2.0", "0.50"],
    ]
    assert len({len(line) for line in (heading, *rows)}) == 1  # aligned
    assert "fake 1.0" in out and "round 2 of 2" in err


def test_json(fakes, capsys):
    fakes(torch={"needs": "nobody_has_this"})
    status, out, _ = run(capsys, "--json", "--batch-size", "3")
    document = json.loads(out)
    assert status == 0
    assert document.keys() == {"jvan", "machine", "settings", "interrupted", "cases"}
    (case,) = document["cases"]
    assert (case["arch"], case["size"], case["batch_size"], case["mode"]) == ("custom", [32, 32], 3, "infer")
    assert {entry["engine"]: entry["status"] for entry in case["engines"]} == {
        "jvan": "ok", "torch": "missing", "openvino": "ok",
    }  # fmt: skip
    assert all(entry.keys() == ENTRY for entry in case["engines"])


@pytest.mark.parametrize(
    "faults, said, status",
    [
        ({"torch": {"needs": "nobody_has_this"}}, "torch: nobody_has_this is not installed (pip install '.[bench]'", 0),
        ({"torch": {"fault": "die", "at": 4}}, "torch: ended with status 3: last words", 1),
        ({"torch": {"factor": 2.0}}, "torch: WRONG, its outputs are further than 0.0001 from jvan's", 1),
        ({"jvan": {"needs": "nobody_has_this"}}, "jvan: nobody_has_this is not installed", 1),
    ],
)
def test_lines_and_status(faults, said, status, fakes, capsys):
    fakes(**faults)
    found, out, _ = run(capsys)
    assert (found, said in out) == (status, True), out
    assert "openvino  500.0" in out  # the others are measured all the same


@pytest.mark.parametrize("load, busy", [(0.9, False), (1.2, True)])
def test_a_busy_machine_is_said(load, busy):
    machine = {
        "cpu": "a CPU",
        "cores": 2,
        "extensions": [],
        "memory_gb": None,
        "system": "S",
        "python": "3",
        "load": load,
    }
    chosen = {"rounds": 1, "seconds": 1.0, "threads": 2}
    document = {"jvan": "0", "machine": machine, "settings": chosen, "interrupted": False, "cases": []}
    assert any("NOT QUIET" in line for line in report.lines(document)) is busy


def test_wrong_outputs_show_no_ratio(fakes, capsys):
    fakes(torch={"factor": 2.0})
    _, out, _ = run(capsys)
    (row,) = [line.split() for line in out.splitlines() if line.startswith("torch ")]
    assert row[3] == "wrong" and row[-1] == "1.0e+00"


@pytest.mark.parametrize("fault, signalled", [("interrupt", 130), ("terminate", 143)])
def test_interruption_reports_and_leaves_nothing(fault, signalled, fakes, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark.tempfile, "tempdir", str(tmp_path))
    fakes(openvino={"fault": fault, "at": 6})
    status, out, err = run(capsys, "--json", "--batch-size", "1", "2")
    document = json.loads(out)
    assert status == signalled and "interrupted" in err
    assert document["interrupted"] and len(document["cases"]) == 1
    assert document["cases"][0]["engines"][1]["median_ms"] == 500
    assert [path.name for path in tmp_path.iterdir()] == ["diary"]


@pytest.mark.parametrize(
    "argv, said",
    [
        (["--arch", "van_b9"], "unknown architecture 'van_b9'"),
        (["--arch", "van_b0:stem=1"], "'stem=1' is no field=value; the fields are embed_dims"),
        (["--arch", "van_b0:depths=3,3,x,2"], "depths is '3,3,x,2'; it must be a number"),
        (["--device", "gpu"], "invalid choice: 'gpu'"),
        (["--dtype", "float16"], "--dtype float16 needs --device cuda; on the CPU there are float32 and bfloat16"),
        (["--tf32"], "--tf32 needs --device cuda"),
        (["--against", "torch", "torch-graphs"], "--against torch-graphs needs --device cuda"),
        (["--against", "openvino", "torch", "--device", "cuda"], "--against openvino runs on the CPU alone"),
        (["--mode", "train", "--dtype", "float16", "--device", "cuda"], "training is in float32 or bfloat16; add it"),
        (["--against", "tensorflow"], "invalid choice: 'tensorflow'"),
        (["--size", "31"], "'31' is too small"),
        (["--size", "224x"], "'' is not a positive integer"),
        (["--batch-size", "0"], "'0' is not a positive integer"),
        (["--seconds", "nan"], "'nan' is not a number of seconds"),
        (["--python", "/no/python"], "'/no/python' is no interpreter"),
        (["--python", "tensorflow=python3"], "'tensorflow' is no engine"),
        (["--weights", "w", "--arch", "van_b0", "van_b1"], "--weights has one network"),
        (["--mode", "train", "--dtype", "bfloat16"], "training is in float32; add it"),
    ],
)
def test_usage(argv, said, capsys):
    with pytest.raises(SystemExit) as caught:
        benchmark.main(argv)
    assert caught.value.code == 2 and said in capsys.readouterr().err


def test_sizes_and_interpreters():
    options = benchmark._parser().parse_args(
        ["--size", "224", "64x96", "--python", sys.executable, "--python", f"openvino={sys.executable}"]
    )
    assert options.size == [(224, 224), (64, 96)]
    assert dict(options.python) == {"": sys.executable, "openvino": sys.executable}
    settings = rounds.Settings(pythons={"": "/peers", "openvino": "/ov"})
    named = {name: settings.python(engine) for name, engine in engines.PEERS.items()}
    assert named == {**dict.fromkeys(engines.PEERS, "/peers"), "openvino": "/ov", "jittor": sys.executable}
    assert settings.python(engines.JVAN["float32"]) == sys.executable
    assert settings.python(engines.EXPORT) == "/peers"
    assert rounds.Settings(pythons={"torch": "/torch"}).python(engines.EXPORT) == "/torch"


@pytest.mark.parametrize(
    "mode, dtypes, against, names",
    [
        ("infer", ["bfloat16"], None, ["jvan-bf16", "openvino-bf16"]),
        ("infer", ["float32"], ["openvino-bf16"], ["jvan", "openvino-bf16"]),
        ("infer", ["float32"], [], ["jvan"]),
        ("train", ["float32", "bfloat16"], None, ["jvan", "torch", "torch-channels-last", "torch-compile", "jittor"]),
    ],
)
def test_chosen_engines(mode, dtypes, against, names):
    assert [engine.name for engine in engines.chosen(mode, dtypes, against)] == names


def test_every_engine_has_its_worker():
    rows = (*engines.JVAN.values(), *engines.PEERS.values(), engines.EXPORT, engines.PRODUCT)
    assert all(row.script.is_file() for row in rows)


# Jittor's kernels flush subnormal numbers to zero, of which numpy warns when matplotlib asks for the smallest.
subnormal = pytest.mark.filterwarnings("ignore:The value of the smallest subnormal:UserWarning")


def pixels_of(path, colour):
    with Image.open(path) as image:
        assert image.format == "PNG" and min(image.size) > 300
        return (np.asarray(image.convert("RGB")) == ImageColor.getrgb(colour)).all(-1).sum()


@subnormal
def test_a_real_worker(capsys, tmp_path):
    """jvan's own worker and the matrix product's, on a picture of the least size, and the figure of what they measured."""
    pytest.importorskip("matplotlib")
    figure = tmp_path / "figure.png"
    options = ["--rounds", "1", "--seconds", "0.01", "--size", "32", "--json", "--plot", str(figure)]
    status = benchmark.main(["--against", *options])
    case = json.loads(capsys.readouterr().out)["cases"][0]
    (ours,) = case["engines"]
    assert (status, ours["engine"], ours["status"]) == (0, "jvan", "ok")
    assert ours["median_ms"] > 0 and case["ceiling_gflops"] > 1
    assert ours["versions"].keys() == {"jvan", "jittor"}
    assert pixels_of(figure, plot.COLOURS["jvan"]) > 1000


@subnormal
def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    bars = [("jvan", 10.0, False), ("torch", 40.0, False), ("openvino", 1.0, True), ("onnxruntime", None, False)]
    cases = [
        {
            "arch": "van_b0", "size": [224, 224], "batch_size": n, "mode": mode,
            "engines": [{"engine": e, "median_ms": ms and ms * n, "wrong": wrong} for e, ms, wrong in bars],
        }
        for mode in ("infer", "train") for n in (1, 16)
    ]  # fmt: skip
    document = {"cases": cases, "machine": {"cpu": "a CPU"}, "settings": {"threads": 2}}
    assert [len(panel) for panel in plot._panels(document).values()] == [2, 2]
    assert [entry["engine"] for entry in plot._bars(cases[0])] == ["jvan", "torch"]
    for suffix in ("png", "svg"):
        plot.plot(document, str(tmp_path / f"figure.{suffix}"))
    colours = [pixels_of(tmp_path / "figure.png", plot.COLOURS[name]) for name in ("jvan", "torch", "openvino")]
    assert min(colours[:2]) > 1000 and colours[2] == 0  # what is wrong has no bar
    assert "van_b0, 224×224, training step" in (tmp_path / "figure.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path, said", [("figure.txt", "no picture format"), ("none/figure.png", "folder is not there")]
)
def test_plot_is_refused_before_anything_is_measured(path, said, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert benchmark.main(["--plot", str(tmp_path / path)]) == 1
    assert said in capsys.readouterr().err


def test_plot_without_matplotlib(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert benchmark.main(["--plot", "figure.png"]) == 1
    assert capsys.readouterr().err == "jvan benchmark: --plot needs matplotlib: pip install '.[plot]'\n"


def test_aligned():
    assert report.aligned([("engine", "ms"), ("a", "10.0")]) == ["engine    ms", "a       10.0"]


def test_the_lock_is_held_while_a_round_is_timed(tmp_path):
    import fcntl

    path = tmp_path / "lock"
    with rounds._locked(str(path)), open(path) as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(path) as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert os.path.getsize(path) == 0
