"""What training runs leave beside their weights: preprocessing in `args`, class names."""

from __future__ import annotations

import argparse
import pickle

import pytest

from jvan.checkpoints.state import load_state
from jvan.preprocessing import Preprocessing

from .tiny_states import random_tensors

ARGS = {
    "mean": [0.485, 0.456, 0.406],
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 1,
    "img_size": 288,
    "input_size": None,
    "interpolation": "bilinear",
    "train_interpolation": "lanczos",
}
NAMES = ("a", "b", "c", "d", "e", "f", "g")


@pytest.fixture
def trained(tmp_path):
    def load(outer=None, **entries):
        inner = {"state_dict": random_tensors(), **entries}
        path = tmp_path / "x.pkl"
        path.write_bytes(pickle.dumps({"model": inner, **outer} if outer else inner, 4))
        return load_state(path)

    return load


@pytest.mark.parametrize("kind", [dict, lambda values: argparse.Namespace(**values)])
def test_the_scripts_arguments_are_taken_and_said(trained, kind):
    state = trained(args=kind(ARGS))
    wanted = Preprocessing(288, 1, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert state.metadata.preprocessing == wanted
    assert "by the file's args: size 288, crop_pct 1, interpolation bilinear, mean (0.485" in state.notes[0]


@pytest.mark.parametrize(
    "args, changed",
    [
        ({}, {}),
        (dict.fromkeys(ARGS), {}),
        ({"interpolation": "random", "mean": "", "img_size": None}, {}),
        ({"interpolation": "", "train_interpolation": "bilinear"}, {}),
        ({"img_size": 224, "input_size": (3, 160, 160)}, {"size": 160}),
        ({"mean": [0.4]}, {"mean": (0.4, 0.4, 0.4)}),
        ({"std": 0.25}, {"std": (0.25, 0.25, 0.25)}),
    ],
)
def test_what_is_none_says_nothing(trained, args, changed):
    state = trained(args=args)
    assert state.metadata.preprocessing == Preprocessing(**changed)
    assert len(state.notes) == bool(changed)


def test_of_several_arguments_the_outermost_decide(trained):
    assert trained({"args": {"img_size": 160}}, args={"img_size": 288}).metadata.preprocessing.size == 160
    assert trained({"args": {"img_size": None}}, args={"img_size": 288}).metadata.preprocessing.size == 288


@pytest.mark.parametrize(
    "args",
    [
        {"img_size": (3, 224, 192)},
        {"img_size": -1},
        {"img_size": "224"},
        {"crop_pct": 1.5},
        {"crop_pct": True},
        {"interpolation": "box"},
        {"mean": [0.5, 0.5]},
        {"mean": ["a", 1, 1]},
        {"mean": [float("nan")] * 3},
        {"std": [0, 0, 0]},
        {"std": {"r": 1}},
    ],
)
def test_impossible_arguments_are_mentioned_and_left(trained, args):
    state = trained(args=args)
    assert state.metadata.preprocessing == Preprocessing()
    assert next(iter(args)).replace("img_", "") in state.notes[0] and "cannot be" in state.notes[0]


@pytest.mark.parametrize(
    "entries",
    [
        {"class_to_idx": {name: number for number, name in reversed(list(enumerate(NAMES)))}},
        {"class_names": list(NAMES)},
        {"meta": {"CLASSES": NAMES}},
        {"meta": {"dataset_meta": {"classes": list(NAMES)}}},
        {"dataset_meta": {"classes": NAMES}},
    ],
)
def test_class_names_are_taken(trained, entries):
    state = trained(**entries)
    assert state.metadata.labels == NAMES and not state.notes
    assert trained(entries).metadata.labels == NAMES


@pytest.mark.parametrize(
    "entries, why",
    [
        ({"class_names": NAMES[:6]}, "the 6 class names under class_names are not taken: the head has 7"),
        ({"class_names": [*NAMES[:6], "a"]}, "no list of names, each once"),
        ({"class_names": [*NAMES[:6], 7]}, "no list of names, each once"),
        ({"class_to_idx": {**dict.fromkeys(NAMES, 0)}}, "class_to_idx are not taken: they are no list of names"),
        ({"class_to_idx": {name: number + 1 for number, name in enumerate(NAMES)}}, "no list of names"),
        ({"meta": {"CLASSES": "abcdefg"}}, "under meta.CLASSES are not taken"),
    ],
)
def test_class_names_that_do_not_fit_are_mentioned(trained, entries, why):
    state = trained(**entries)
    assert state.metadata.labels is None and why in state.notes[0]


def test_labels_are_stored_in_nfc(trained):
    composed, apart = "caf\xe9", "cafe\u0301"
    assert trained(class_names=[apart, *NAMES[1:]]).metadata.labels == (composed, *NAMES[1:])
    both = (apart, composed, *NAMES[2:])  # two classes stay two
    assert trained(class_names=list(both)).metadata.labels == both
