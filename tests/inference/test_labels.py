"""Class names: the bundled list against facts, the user's files by hand."""

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from jvan.errors import JvanError
from jvan.inference.labels import Label, given_labels, imagenet_labels, labels_for, read_labels

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "imagenet_sample.tar"


def test_bundled_list_is_in_the_order_of_wordnet_ids():
    labels = imagenet_labels()
    ids = [label.wnid for label in labels]
    assert len(labels) == 1000 and ids == sorted(set(ids)) and all(re.fullmatch(r"n\d{8}", wnid) for wnid in ids)
    assert len({label.name.lower() for label in labels}) == 1000
    assert all(label.name == label.name.strip() and label.name.isprintable() for label in labels)


@pytest.mark.parametrize(
    ("index", "wnid", "name"),
    [(0, "n01440764", "tench"), (281, "n02123045", "tabby"), (285, "n02124075", "Egyptian cat"),
     (134, "n02012849", "crane (bird)"), (504, "n03063599", "coffee mug"), (999, "n15075141", "toilet tissue")],
)  # fmt: skip
def test_well_known_classes(index, wnid, name):
    assert imagenet_labels()[index] == Label(name, wnid)


@pytest.mark.skipif(not SAMPLE.exists(), reason="the ImageNet sample is not here")
def test_bundled_ids_are_those_of_the_sample():
    with tarfile.open(SAMPLE) as tar:
        text = tar.extractfile("imagenet_sample/classes.txt").read().decode()
    assert [line.split()[0] for line in text.splitlines()] == [label.wnid for label in imagenet_labels()]


PAIR = (Label("red cell", None), Label("Egyptian cat", "n02124075"))


@pytest.mark.parametrize(
    "text",
    [
        "red cell\nn02124075 Egyptian cat\n",
        "\ufeffred cell\r\nn02124075\tEgyptian cat\r\n\r\n",
        '["red cell", "n02124075 Egyptian cat"]',
        '  {"1": ["n02124075", "Egyptian cat"], "0": "red cell"}\n',
        '{"n02124075 Egyptian cat": 1, "red cell": 0}',
        "0 red cell\n1 n02124075 Egyptian cat\n",
        "1: red cell\n2: n02124075 Egyptian cat",
        "0,red cell\r\n1,n02124075,Egyptian cat\r\n",
        "01.\tred cell\n02)  n02124075 Egyptian cat\n",
    ],
)
def test_user_s_files(tmp_path, text):
    path = tmp_path / "labels"
    path.write_bytes(text.encode("utf-8"))
    assert read_labels(path) == PAIR


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "class 0"),
        (b"a\n\nb\n", "class 1"),
        (b"\xff\xfe\0", "UTF-8"),
        (b'["a", 3]', "class 1 is 3"),
        (b'["a"', "not a JSON"),
        (b'{"0": "a", "2": "b"}', "1 is missing"),
        (b'{"a": "b"}', "neither"),
        (b'{"a": 0, "b": 0}', "index 0 stands there twice"),
        (b'{"0": "a", "00": "b"}', "index 0 stands there twice"),
        (b'{"a": 1, "b": 2}', "0 is missing"),
        (b"[" * 100_000, "not a JSON"),
    ],
)
def test_unusable_files_are_one_line(tmp_path, content, said):
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(JvanError, match=said) as caught:
        read_labels(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(JvanError, match=re.escape(f"{path}: labels cannot be read")):
            read_labels(path)


def test_metadata_s_labels():
    assert labels_for("imagenet-1k", 1000) == imagenet_labels()
    assert labels_for(("a", "b"), 2) == (Label("a"), Label("b"))
    assert labels_for(None, 2) == (Label("class 0"), Label("class 1"))
    for labels, classes, said in [("imagenet-1k", 10, "1000 labels.*10 classes"), (("a",), 2, "1 labels.*2 classes"),
                                  ("imagenet-22k", 1000, "imagenet-22k")]:  # fmt: skip
        with pytest.raises(JvanError, match=said):
            labels_for(labels, classes)


def test_lists_are_the_same_as_json(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([label.name for label in imagenet_labels()]))
    assert [label.name for label in read_labels(path)] == [label.name for label in imagenet_labels()]


@pytest.mark.parametrize("lines", [["7 up", "cola"], ["0 cat", "2 dog"], ["2 cats", "3 dogs"], ["0.5 mm", "1.5 mm"], ["0", "1"],
                                   ["cat 0", "dog 1"], ["1st", "2nd"], ["1 cat", "2 dog", "fish"]])  # fmt: skip
def test_names_that_begin_with_a_number(tmp_path, lines):
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(lines))
    assert [label.name for label in read_labels(path)] == lines


@pytest.mark.parametrize(
    "labels",
    [
        ["red cell", "cat"],
        ("red cell", "cat"),
        iter(["red cell", "cat"]),
        {0: "red cell", 1: "cat"},
        {1: "cat", 0: "red cell"},
        {"1": "cat", "0": "red cell"},
        {"cat": 1, "red cell": 0},
        {"cat": np.int64(1), "red cell": np.int64(0)},
        {np.int64(1): "cat", np.int64(0): "red cell"},
        np.array(["red cell", "cat"]),
    ],
    ids=str,
)
def test_what_callers_give(labels):
    assert given_labels(labels) == (Label("red cell"), Label("cat"))


def test_numbers_as_names():
    assert given_labels({"0": 1, "1": 0}) == (Label("1"), Label("0"))
    assert given_labels([7, np.int64(8)]) == (Label("7"), Label("8"))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"red cell", "cat"}, "a set; give"),
        (frozenset("ab"), "a frozenset; give"),
        (b"labels.txt", "a bytes; give"),
        (3, "a int; give"),
        (["a", None], "class 1 is None"),
        ([["a"], "b"], "class 0 is .'a'"),
        ({0: "a", 2: "b"}, "1 is missing"),
        ({0: "a", 1: None}, "class 1 is None"),
        ({None: "a"}, "neither"),
        ({"a": 0.0, "b": 1.0}, "neither"),
        ({0: 1, 1: 0}, "class 0 is 1"),
    ],
)
def test_what_is_no_list_of_labels(labels, said):
    with pytest.raises(JvanError, match=said) as caught:
        given_labels(labels)
    assert str(caught.value).startswith("labels")
