"""The command: what it prints, where, and its exit status."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from jvan import predict, tasks
from jvan.tasks import Predictor

from .inference.networks import MeanColour

ROOT = Path(__file__).parents[1]
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SAMPLE = ROOT.parent / "shared" / "data" / "imagenet_sample.tar"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with three pictures, one of them broken; the network is a known one."""
    for name, colour in [("blue.png", (0, 0, 255)), ("green.png", (0, 255, 0))]:
        Image.new("RGB", (40, 40), colour).save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    monkeypatch.chdir(tmp_path)

    def known(arch, weights, device, **options):
        predictor = Predictor.from_model(MeanColour(note="made for this test"), **options)
        predictor.weights, predictor.device = "known", device
        return predictor

    monkeypatch.setattr(tasks, "Predictor", known)
    return tmp_path


def run(capsys, *argv):
    status = predict.main(list(argv))
    out, err = capsys.readouterr()
    return status, out, err


def test_table(folder, capsys):
    status, out, err = run(capsys, "green.png", "blue.png", "--topk", "2")
    assert status == 0
    assert out == (
        "green.png\n   1   78.70 %  g\n   2   10.65 %  r\n"
        "\nblue.png\n   1   78.70 %  b\n   2   10.65 %  r\n"
    )  # fmt: skip
    assert "weights: known" in err and "note: made for this test" in err and "short side 32 (bicubic)" in err


def test_table_shows_wordnet_ids(folder, capsys):
    (folder / "labels.txt").write_text("n00000001 rot\nn00000002 grün 绿\nblau\n", encoding="utf-8")
    _, out, _ = run(capsys, "green.png", "--labels", "labels.txt")
    assert out.splitlines()[1:] == [
        "   1   78.70 %  n00000002  grün 绿",
        "   2   10.65 %  n00000001  rot",
        "   3   10.65 %             blau",
    ]


def test_json_follows_its_schema_and_names_failures(folder, capsys):
    (folder / "labels.json").write_text('["n00000001 rot", "grün", "blau"]', encoding="utf-8")
    status, out, err = run(capsys, ".", "nix.png", "--json", "--labels", "labels.json", "--batch-size", "2")
    assert status == 1
    entries = json.loads(out)
    assert [entry["file"] for entry in entries] == ["./blue.png", "./broken.jpg", "./green.png", "nix.png"]
    for entry in (entries[0], entries[2]):
        assert set(entry) == {"file", "predictions"} and len(entry["predictions"]) == 3
        for prediction in entry["predictions"]:
            wanted = {"index": int, "label": str, "probability": float}
            assert {k: type(v) for k, v in prediction.items() if k != "wnid"} == wanted
            assert prediction.get("wnid") == ("n00000001" if prediction["label"] == "rot" else None)
            assert ("wnid" in prediction) == (prediction["label"] == "rot")
    for entry in (entries[1], entries[3]):
        assert entry["predictions"] == [] and entry["error"].startswith(entry["file"])
        assert err.count(f"jvan predict: {entry['error']}\n") == 1


def test_failures_go_to_stderr_and_the_rest_goes_on(folder, capsys):
    status, out, err = run(capsys, "missing.png", "broken.jpg", "green.png")
    assert status == 1 and out.startswith("green.png\n   1")
    assert "jvan predict: missing.png: no such file\n" in err and "jvan predict: broken.jpg: damaged" in err


def test_pictures_that_are_too_large_are_named(folder, capsys):
    Image.new("RGB", (41, 40), (255, 0, 0)).save("large.png")
    status, out, err = run(capsys, "large.png", "blue.png", "--max-pixels", "1600")
    assert status == 1 and out.startswith("blue.png\n")
    assert "large.png: too large, 41×40 are more than 1,600 pixels" in err


@pytest.mark.parametrize("given", ["drawn", ""])
def test_a_classifier_draws_nothing(folder, capsys, given):
    with pytest.raises(SystemExit) as stop:
        predict.main(["green.png", "--output", given])
    assert stop.value.code == 2 and "--output: a classifier draws nothing" in capsys.readouterr().err
    assert not Path("drawn").exists()


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_nothing_found(folder, capsys, monkeypatch, as_json):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    status, out, err = run(capsys, "-", *as_json)
    assert status == 1 and "no pictures were given" in err
    assert json.loads(out) == [] if as_json else out == ""
    status, out, err = run(capsys, "*.gif", *as_json)
    assert status == 1 and "*.gif: no file matches this pattern" in err


def test_paths_from_standard_input(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"green.png\nblue.png\n")))
    status, out, _ = run(capsys, "-", "--json")
    assert status == 0 and [entry["file"] for entry in json.loads(out)] == ["green.png", "blue.png"]


def test_json_stays_valid_when_the_job_dies(folder, capsys, monkeypatch):
    known = tasks.Predictor

    def dying(*args, **options):
        predictor = known(*args, **options)
        predictor.model.scale = float("nan")
        return predictor

    monkeypatch.setattr(tasks, "Predictor", dying)
    status, out, err = run(capsys, "green.png", "--json")
    assert status == 1 and json.loads(out) == [] and "not finite" in err and "Traceback" not in err


def test_names_cannot_steer_the_terminal(folder, capsys):
    name = "evil\x1b[2J\n\u202e.png"
    os.rename("green.png", name)
    status, out, _ = run(capsys, name)
    assert status == 0 and out.splitlines()[0] == r"evil\x1b[2J\n\u202e.png"
    _, out, _ = run(capsys, name, "--json")
    assert json.loads(out)[0]["file"] == name
    _, _, err = run(capsys, name + "x")
    assert "\x1b" not in err and err.count("\n") == 5


def test_file_names_that_are_no_text(folder, capsys):
    raw = b"gr\xfcn.png"
    os.rename("green.png", raw)
    status, out, _ = run(capsys, os.fsdecode(raw))
    assert status == 0 and out.startswith("gr\\udcfcn.png\n")
    _, out, _ = run(capsys, os.fsdecode(raw), "--json")
    assert os.fsencode(json.loads(out)[0]["file"]) == raw


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["a.png", "--topk", "0"],
        ["a.png", "--batch-size", "x"],
        ["a.png", "--arch", "van_b9"],
        ["a.png", "--device", "tpu"],
        ["a.png", "--json", "--json-lines"],
        ["a.png", "--max-pixels", "0"],
    ],
)
def test_bad_usage(folder, capsys, argv):
    with pytest.raises(SystemExit) as stopped:
        predict.main(argv)
    assert stopped.value.code == 2


@pytest.mark.parametrize("content", [None, "a\nb\n"])
def test_unusable_labels(folder, capsys, content):
    if content:
        (folder / "labels.txt").write_text(content)
    status, out, err = run(capsys, "green.png", "--labels", "labels.txt")
    assert (status, out) == (1, "") and err.startswith("jvan predict: labels.txt") and err.count("\n") == 1


def command(*argv, stdin=b""):
    return subprocess.run(
        [sys.executable, "-m", "jvan.predict", *argv], cwd=ROOT, input=stdin, capture_output=True, timeout=300
    )


def test_bundled_network_from_the_command_line():
    done = command("examples/cat.jpg", "tests/data", "--json", "--topk", "3", "--device", "cpu")
    assert done.returncode == 0, done.stderr.decode()
    entries = json.loads(done.stdout)
    pictures = sorted(p.name for p in (ROOT / "tests/data").iterdir() if p.suffix != ".md")
    assert [entry["file"] for entry in entries] == ["examples/cat.jpg"] + [f"tests/data/{name}" for name in pictures]
    for entry in entries:
        probabilities = [prediction["probability"] for prediction in entry["predictions"]]
        assert len(probabilities) == 3 and probabilities == sorted(probabilities, reverse=True)
        for prediction in entry["predictions"]:
            assert prediction["label"] == CIFAR10[prediction["index"]] and "wnid" not in prediction
    lines = done.stderr.decode().splitlines()
    assert all(line.startswith("jvan predict: ") for line in lines)
    assert entries[0]["predictions"][0]["label"] == "cat"
    assert "van_cifar10.safetensors" in lines[0] and "10 classes, on cpu" in lines[0] and "CIFAR-10" in lines[3]
    assert lines[1] == "jvan predict: arithmetic: float32"


def test_sigterm_ends_the_list():
    """Jittor, and threads that decode, are at work; paths go on coming."""
    call = [sys.executable, "-m", "jvan.predict", "-", "--json", "--batch-size", "1", "--device", "cpu"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(call, cwd=ROOT, start_new_session=True, **pipes) as process:
        process.stdin.write(b"examples/cat.jpg\n" * 20)
        process.stdin.flush()
        assert any(b"note:" in line for line in process.stderr)
        os.killpg(process.pid, signal.SIGTERM)  # as `timeout` and Slurm do: Jittor's compilers get it, too
        assert process.wait(30) == 143
        assert process.stderr.read() == b"jvan predict: terminated\n"
        assert {entry["file"] for entry in json.loads(process.stdout.read())} <= {"examples/cat.jpg"}


def test_help_needs_neither_jittor_nor_numpy():
    code = "import sys; sys.modules.update(jittor=None, numpy=None, PIL=None)\nfrom jvan import predict\npredict.main(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == 0 and b"--labels" in done.stdout, done.stderr.decode()


@pytest.mark.skipif(not SAMPLE.exists(), reason="the ImageNet sample is not here")
def test_real_pictures(tmp_path, capsys):
    with tarfile.open(SAMPLE) as tar:
        members = [member for member in tar if member.name.endswith(".JPEG")][::200]
        for member in members:
            with contextlib.closing(tar.extractfile(member)) as file:
                path = tmp_path / Path(member.name).parent.name / Path(member.name).name
                path.parent.mkdir()
                path.write_bytes(file.read())
    status, out, _ = run(capsys, str(tmp_path), "--json", "--device", "cpu")
    entries = json.loads(out)
    assert status == 0 and len(entries) == 5
    assert [Path(entry["file"]).parent.name for entry in entries] == sorted(Path(m.name).parent.name for m in members)
