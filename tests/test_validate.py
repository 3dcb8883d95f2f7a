"""`jvan validate`: figures counted by hand, classes matched by name, results as files, what is refused."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jvan import Predictor
from jvan.checkpoints.metadata import Metadata
from jvan.checkpoints.published.catalogue import catalogue
from jvan.checkpoints.state import State, load_state
from jvan.checkpoints.writers import save_state
from jvan.classification.measure import match
from jvan.errors import DataError
from jvan.inference.labels import Label, imagenet_labels
from jvan.preprocessing import Preprocessing
from jvan.validate import _write, main
from jvan.variants import VANConfig
from tests.engine.drawn import draw_folder
from weights_convert.random_state import official_shapes, random_state

CLASSES = ("gnu", "fox", "eel", "dog", "cat", "bee", "ant")
SOME = ("ant", "bee", "cat", "dog", "fox", "gnu")
SIZES = {"embed_dims": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "num_classes": len(CLASSES)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network of random weights that names its classes."""
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    tensors = random_state(official_shapes(**SIZES))
    for name, shape in official_shapes(**SIZES).items():
        if name.endswith(("running_mean", "running_var")):
            tensors[name] = np.full(shape, 0.0 if name.endswith("mean") else 1.0, np.float32)
    metadata = Metadata(VANConfig(**SIZES), Preprocessing(size=32, crop_pct=1.0), labels=CLASSES)
    save_state(State({n: tensors[n] for n in official_shapes(**SIZES)}, metadata), path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """All of the network's classes but one, in another order, 13 pictures each: no batch of 8 is full at the end."""
    return draw_folder(tmp_path_factory.mktemp("data") / "some", classes=SOME, each=13)


def run(capsys, *arguments, status=0, workers=0):
    capsys.readouterr()
    assert main([*map(str, arguments), "--workers", str(workers), "--batch-size", "8"]) == status
    return capsys.readouterr()


def test_counts_what_predict_says(weights, data, tmp_path, capsys):
    found = json.loads(run(capsys, data, "--weights", weights, "--json").out)
    answers = {}
    for folder in sorted(data.iterdir()):
        for predictions in Predictor(weights=weights)(sorted(folder.iterdir()), topk=5):
            answers.setdefault(folder.name, []).append([p.label for p in predictions])
    every = [(name, labels) for name, each in answers.items() for labels in each]
    assert found["pictures"] == len(every) == 78
    assert found["top1"] == pytest.approx(np.mean([labels[0] == name for name, labels in every]))
    assert found["top5"] == pytest.approx(np.mean([name in labels for name, labels in every]))
    assert [row["class"] for row in found["classes"]] == [name for name in CLASSES if name in SOME]
    for row in found["classes"]:
        assert row["pictures"] == 13 and row["top1"] == np.mean(
            [labels[0] == row["class"] for labels in answers[row["class"]]]
        )
    counted = {}
    for name, labels in every:
        pair = (CLASSES.index(name), CLASSES.index(labels[0]))
        counted[pair] = counted.get(pair, 0) + 1
    assert {(label, answer): count for label, answer, count in found["confusion"]} == counted
    assert 0 < found["top1"] < 1  # so that a wrong order of the classes would be seen


def test_what_a_user_should_know_of_the_weights_is_one_line(tmp_path, capsys):
    source = Path(__file__).parent / "golden" / "official_tiny_ema.pth.tar"
    data = draw_folder(tmp_path / "data", classes=CLASSES, each=1)
    _, err = run(capsys, data, "--weights", source)
    (line,) = [line for line in err.splitlines() if "averaged" in line]
    assert line.startswith(f"jvan validate: warning: {source}: averaged weights lie in the file")


def test_tables(weights, data, tmp_path, capsys):
    rows, matrix = tmp_path / "rows.csv", tmp_path / "matrix.csv"
    printed = run(capsys, data, "--weights", weights, "--csv", rows, "--confusion", matrix)
    assert "top-1" in printed.out and "most often confused" in printed.out and "classes by name" in printed.err
    with open(rows, newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["class"] for row in found] == [name for name in CLASSES if name in SOME] and {
        row["pictures"] for row in found
    } == {"13"}
    with open(matrix, newline="") as file:
        head, *lines = csv.reader(file)
    assert set(SOME) <= set(head[1:]) and [sum(map(int, line[1:])) for line in lines] == [13] * len(SOME)


@pytest.mark.parametrize("option", ["--csv", "--confusion"])
def test_a_table_that_cannot_be_written_is_refused_before_the_work(weights, data, tmp_path, capsys, option):
    for path in (tmp_path / "none" / "x.csv", tmp_path):
        printed = run(capsys, data, "--weights", weights, option, path, status=1)
        assert "top-1" not in printed.out and len(printed.err.splitlines()) == 1
    assert not list(tmp_path.parent.glob("*.part"))


@pytest.mark.parametrize("option", ["--csv", "--confusion"])
def test_a_device_or_pipe_is_not_replaced_and_a_link_is_followed(weights, data, tmp_path, capsys, option):
    os.mkfifo(tmp_path / "pipe")
    err = run(capsys, data, "--weights", weights, option, tmp_path / "pipe", status=1).err
    assert "is no regular file" in err and (tmp_path / "pipe").is_fifo()
    (tmp_path / "link.csv").symlink_to(tmp_path / "table.csv")
    run(capsys, data, "--weights", weights, option, tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "table.csv").read_text().count("\n") > 1


def test_ctrl_c_ends_it_at_once(weights, data):
    command = [sys.executable, "-m", "jvan.validate", data, "--weights", weights, "--batch-size", "1"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        assert any("data:" in line for line in process.stderr)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: Jittor's pool gets it, too
        assert process.wait(30) == 130
        assert process.stderr.read().splitlines()[-1] == "jvan validate: interrupted"


def test_modules_beside_the_pictures_are_not_run(weights, data, tmp_path):
    """By `python -m`, from inside the data set, with workers: all that is imported after jvan comes from where it belongs."""
    folder, marker = tmp_path / "data", tmp_path / "marker"
    shutil.copytree(data, folder)
    for name in (
        "json",
        "queue",
        "numpy",
        "argparse",
        "tempfile",
        "platform",
        "PIL",
        "tqdm",
        "jittor",
        "jit_utils_core",
    ):
        (folder / f"{name}.py").write_text(f"open({str(marker)!r}, 'a').write(__name__)")
    command = [sys.executable, "-m", "jvan.validate", folder, "--weights", weights, "--workers", "2", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert not marker.exists(), marker.read_text()
    assert done.returncode == 0 and json.loads(done.stdout)["pictures"] == 78, done.stderr


def test_a_matrix_of_too_many_classes_is_refused_before_the_work(weights, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jvan.classification.measure.LARGEST_CONFUSION", 6)
    printed = run(capsys, data, "--weights", weights, "--confusion", tmp_path / "matrix.csv", status=1)
    assert "7 classes" in printed.err and "top-1" not in printed.out and not list(tmp_path.iterdir())
    assert json.loads(run(capsys, data, "--weights", weights, "--json").out)["confusion"] == []


def test_a_class_that_the_network_does_not_know_is_one_line(weights, tmp_path, capsys):
    data = draw_folder(tmp_path / "d", classes=("ant", "yak"), each=2)
    lines = run(capsys, data, "--weights", weights, status=1).err.splitlines()
    assert len(lines) == 1 and "'yak'" in lines[0] and "7 classes" in lines[0]
    lines = run(capsys, tmp_path / "none", "--weights", weights, status=1).err.splitlines()
    assert len(lines) == 1 and "none" in lines[0]


def test_the_network_that_ships_is_the_default(tmp_path, capsys):
    """Of CIFAR-10's ten classes; its answer for a picture that is not CIFAR's is right."""
    (tmp_path / "cat").mkdir()
    shutil.copy(Path(__file__).parents[1] / "examples" / "cat.jpg", tmp_path / "cat")
    found = json.loads(run(capsys, tmp_path, "--json").out)
    assert found["weights"] == "bundled van_cifar10.safetensors" and found["pictures"] == 1
    assert found["top1"] == 1 and [row["class"] for row in found["classes"]] == ["cat"]


def test_a_damaged_picture_is_named_and_not_counted(weights, tmp_path, capsys):
    data = draw_folder(tmp_path / "d", classes=("ant", "bee"), each=3)
    (data / "ant" / "001.png").write_bytes(b"no picture")
    printed = run(capsys, data, "--weights", weights, "--json")
    assert json.loads(printed.out)["pictures"] == 5 and "001.png" in printed.err


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_of_many_pixels(weights, tmp_path, capsys, workers):
    """Read smaller, or beyond --max-pixels; in a worker it takes its turn."""
    data = draw_folder(tmp_path / "d", classes=("ant", "bee"), each=3)
    Image.new("L", (6000, 5001), 90).save(data / "ant" / "large.png")
    for limit, count in (((), 7), (("--max-pixels", 30_000_000), 6)):
        printed = run(capsys, data, "--weights", weights, "--json", *limit, workers=workers)
        assert json.loads(printed.out)["pictures"] == count and ("too large" in printed.err) == (count == 6)


def test_names_in_a_tar_reach_neither_a_terminal_nor_a_spreadsheet(weights, tmp_path, capsys):
    """Of classes, members and the network; JSON has them as they are, and a class that reads as a formula is text in CSV."""
    hostile = ("\x1b[31mred", "=1+1", "中é😀", "a\nb", "@x\x9b", "-1", "\t\u202egnp")
    state = load_state(weights)
    save_state(
        State(state.tensors, replace(state.metadata, labels=hostile, note="\x1b]0;x\x07")), tmp_path / "w.safetensors"
    )
    drawn = draw_folder(tmp_path / "drawn", classes=CLASSES, each=2)
    (drawn / "gnu" / "000.png").write_bytes(b"no picture")
    with tarfile.open(tmp_path / "\x1b.tar", "w") as tar:
        for folder, name in zip(CLASSES, hostile):
            for picture in sorted((drawn / folder).iterdir()):
                tar.add(picture, f"{name}/\x1b\r中{picture.name}")
    tables = ["--csv", tmp_path / "rows.csv", "--confusion", tmp_path / "matrix.csv"]
    given = (tmp_path / "\x1b.tar", "--weights", tmp_path / "w.safetensors")
    printed = run(capsys, *given, *tables)
    assert all(line.isprintable() for line in (printed.out + printed.err).split("\n"))
    assert (
        "\\x1b.tar:\\x1b[31mred/\\x1b\\r中000.png: not a JPEG" in printed.err
        and "note: \\x1b]0;x\\x07\n" in printed.err
    )
    assert {line.rpartition("  ")[2] for line in printed.out.splitlines()} >= {
        *(ascii(n)[1:-1] for n in hostile if n != "中é😀"),
        "中é😀",
    }
    found = json.loads(run(capsys, *given, "--json").out)
    assert [row["class"] for row in found["classes"]] == list(hostile)
    assert found["data"] == str(tmp_path / "\x1b.tar") and found["corrupt"][0][0].endswith(
        ":\x1b[31mred/\x1b\r中000.png"
    )
    assert found["corrupt"][0][1].startswith("not a JPEG")
    text = ["\x1b[31mred", "'=1+1", "中é😀", "a\nb", "'@x\x9b", "'-1", "'\t\u202egnp"]
    with open(tmp_path / "rows.csv", newline="", encoding="utf-8") as file:
        assert [row["class"] for row in csv.DictReader(file)] == text
    with open(tmp_path / "matrix.csv", newline="", encoding="utf-8") as file:
        assert [row[0] for row in csv.reader(file)] == ["class", *text]


def test_classes_that_are_no_text_reach_weights_and_tables(weights, tmp_path, capsys):
    """Bytes of GBK among labels, in a data set and in all outputs: as escapes, each its own."""
    names = [name.encode("gbk").decode("utf-8", "surrogateescape") for name in ("狗", "马", "鸟")]
    state = load_state(weights)
    given = (*names, "caf\xe9", *CLASSES[4:])
    save_state(State(state.tensors, replace(state.metadata, labels=given)), tmp_path / "w.safetensors")
    save_state(State(state.tensors, replace(state.metadata, labels=given)), tmp_path / "w.npz")
    for suffix in ("safetensors", "npz"):
        assert load_state(tmp_path / f"w.{suffix}").metadata.labels == given
    drawn = draw_folder(tmp_path / "drawn", classes=CLASSES[:4], each=4)
    with tarfile.open(tmp_path / "data.tar", "w") as tar:
        for folder, name in zip(CLASSES, (*names, "cafe\u0301")):
            tar.add(drawn / folder, name)
    arguments = (tmp_path / "data.tar", "--weights", tmp_path / "w.safetensors")
    printed = run(capsys, *arguments, "--csv", tmp_path / "rows.csv")
    assert all(line.isprintable() for line in (printed.out + printed.err).split("\n"))
    assert {line.rpartition("  ")[2] for line in printed.out.splitlines()} >= {
        *(ascii(n)[1:-1] for n in names),
        "caf\xe9",
    }
    rows = json.loads(run(capsys, *arguments, "--json").out)["classes"]
    assert [(row["class"], row["pictures"]) for row in rows] == [(name, 4) for name in given[:4]]
    with open(tmp_path / "rows.csv", newline="", encoding="utf-8") as file:
        assert [row["class"] for row in csv.DictReader(file)] == [*(ascii(n)[1:-1] for n in names), "caf\xe9"]


def test_half_characters_in_names_do_not_end_the_tables(tmp_path):
    """As weights may name a class."""
    _write(str(tmp_path / "rows.csv"), [("g\udcff", 1)])
    assert (tmp_path / "rows.csv").read_bytes() == b"g\\udcff,1\n"


def test_the_publishers_claim_is_beside_the_measured_figure(weights, data, tmp_path, capsys):
    """Weights that were converted from a published file are known by its hash, wherever they lie now."""
    assert json.loads(run(capsys, data, "--weights", weights, "--json").out)["claim"] is None
    state, published = load_state(weights), catalogue()["van_b2.in1k"]
    converted = tmp_path / "mine.safetensors"
    save_state(State(state.tensors, replace(state.metadata, source_sha256=published.sha256)), converted)
    assert json.loads(run(capsys, data, "--weights", converted, "--json").out)["claim"] == published.top1 == 82.8
    assert "(claimed: 82.80 %)" in run(capsys, data, "--weights", converted).out


def test_classes_are_matched_by_wordnet_id_or_name():
    labels = imagenet_labels()
    places, _ = match((labels[7].wnid, labels[3].wnid, "goldfish"), labels, True)
    assert places.tolist() == [7, 3, [label.name for label in labels].index("goldfish")]
    cranes = (Label("crane", "n02012849"), Label("crane", "n03126707"))
    assert match(("n03126707",), cranes, True)[0].tolist() == [1]
    with pytest.raises(DataError, match="WordNet"):
        match(("crane",), cranes, True)


def test_unnamed_classes_are_matched_by_place_if_as_many():
    labels = (Label("class 0"), Label("class 1"))
    assert match(("a", "b"), labels, False)[0].tolist() == [0, 1]
    with pytest.raises(DataError, match="3 classes"):
        match(("a", "b", "c"), labels, False)
