"""What a file says of itself: format 2 whole and hostile, files of format 1 as jvan 0.1.0 wrote them."""

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from jvan.checkpoints.metadata import Metadata
from jvan.checkpoints.reader import open_checkpoint
from jvan.checkpoints.state import load_state
from jvan.checkpoints.writers import save_state
from jvan.errors import CheckpointError
from jvan.tasks import BUNDLED
from jvan.variants import variant_config

from .tiny_states import METADATA, assert_same, tiny_state

DENSE = replace(
    METADATA, config=variant_config("van_b0", num_classes=0), task="segmentation", labels=("road", "sky"), ignore_label=255,
    head={"kind": "fpn", "num_classes": 2, "channels": [32, 64], "deep": {"scale": 0.5, "name": None}},
    palette=((128, 64, 128), (0, 0, 255)), test={"scale": [2048, 512]},
)  # fmt: skip


def of_0_1(**changes) -> str:
    """A document as 0.1.0 wrote it (checkpoints/metadata.py of that release)."""
    config = {
        "embed_dims": [4, 8, 12, 16], "depths": [1, 1, 2, 1], "mlp_ratios": [8, 8, 4, 4], "num_classes": 7, "in_chans": 3,
        "kernel_size": 21, "dilation": 3, "stem_stride": 2, "norm_eps": 1e-05, "lka_parts": ["dw", "dw_d", "pw"], "gate": "add",
    }  # fmt: skip
    pictures = {
        "size": 128,
        "crop_pct": 0.75,
        "interpolation": "lanczos",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
    }
    document = {
        "format": 1, "arch": "custom", "config": config, "preprocessing": pictures, "origin": "mmpretrain",
        "labels": list(METADATA.labels), "source": "somewhere.pth", "source_sha256": "0" * 64, "note": "not trained",
    }  # fmt: skip
    return json.dumps({**document, **changes}, sort_keys=True, ensure_ascii=False)


def test_format_2_reads_back_as_it_was():
    assert Metadata.from_json(DENSE.to_json()) == DENSE and DENSE.num_classes == 2
    document = json.loads(DENSE.to_json())
    assert document["format"] == 2 and document["palette"] == [[128, 64, 128], [0, 0, 255]]
    plain = json.loads(METADATA.to_json())
    assert plain["task"] == "classification" and not {"head", "palette", "ignore_label", "test"} & set(plain)


def test_format_1_reads_as_a_classifiers():
    found = Metadata.from_json(of_0_1())
    assert found == METADATA and (found.task, found.head, found.num_classes) == ("classification", None, 7)


def test_the_bundled_file_is_of_0_1():
    with open_checkpoint(BUNDLED) as source:
        assert json.loads(source.header["jvan"])["format"] == 1 and source.metadata.task == "classification"
    assert load_state(BUNDLED).metadata.num_classes == 10


@pytest.mark.parametrize("suffix", [".npz", ".pkl", ".pth"])
def test_format_1_beside_a_file(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    save_state(tiny_state(), path)
    path.with_name(f"{path.name}.json").write_text(of_0_1(), encoding="utf-8")
    state = load_state(path)
    assert state.metadata == METADATA
    assert_same(state.tensors, tiny_state().tensors)


def changed(**changes) -> str:
    return json.dumps({**json.loads(DENSE.to_json()), **changes})


DEEP = "[" * 10_000 + "]" * 10_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (changed(format=3), "of format 3, which a newer jvan wrote; update this one"),
        (changed(format=0), "it is not jvan's"),
        (changed(format=True), "it is not jvan's"),
        (changed(format="2"), "it is not jvan's"),
        (of_0_1(task="segmentation"), "unknown entries: 'task'"),
        (of_0_1(head={"num_classes": 7}), "unknown entries: 'head'"),
        (changed(colour="red"), "unknown entries: 'colour'"),
        (changed(task=None), "should be text"),
        (changed(task=7), "should be text"),
        (changed(head=[1]), "its head is no object"),
        (changed(head={}), "its head does not say its num_classes"),
        (changed(head={"num_classes": True}), "its head does not say its num_classes"),
        (changed(head={"num_classes": -1}), "its head does not say its num_classes"),
        (changed(head={"num_classes": 3}), "names 2 labels for 3 classes"),
        (changed(head={"num_classes": 0}), "its head does not say its num_classes"),
        (changed(head={"num_classes": 1 << 25}), "its head does not say its num_classes"),
        (changed(head={"num_classes": 1 << 60}), "its head holds a int that cannot be written as JSON, or a number beyond"),
        (changed(head={"num_classes": 2, "x": 7}).replace('"x": 7', '"x": 1e999'), "its head holds a float that cannot"),
        (changed(head={"num_classes": 2, "x": [0] * 10_000}), "its head has more than 10000 values"),
        (changed(test={"x": json.loads("[" * 20 + "]" * 20)}), "its test has more than 16 levels"),
        (changed(config={**DENSE.config.to_dict(), "num_classes": 7}), "a head, and a classifier of 7 classes beside it"),
        (changed(format=2.0), "it is not jvan's"),
        (changed(test="fast"), "its test is no object"),
        (changed(labels=["road"]), "names 1 labels for 2 classes"),
        (changed(labels=[1, 2]), "should be text"),
        (changed(palette=[[0, 0, 0]]), "1 colours for 2 classes"),
        (changed(palette=[[0, 0, 256], [0, 0, 0]]), "its palette is no list of"),
        (changed(palette=[[0, 0, 0.5], [0, 0, 0]]), "its palette is no list of"),
        (changed(palette=["red", "sky"]), "its palette is no list of"),
        (changed(palette=7), "malformed"),
        (changed(palette=[[float("nan")] * 3] * 2), "malformed"),
        (changed(ignore_label=-1), "its ignore_label is no whole number"),
        (changed(ignore_label=255.0), "its ignore_label is no whole number"),
        (changed(head=0).replace('"head": 0', f'"head": {DEEP}'), "nested more than 32 levels deep"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_in_one_line(text, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        Metadata.from_json(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_byte_changed_anywhere_is_refused_or_read():
    rng, text = np.random.RandomState(0), DENSE.to_json().encode()
    read = 0
    for _ in range(600):
        mutated = bytearray(text)
        for place in rng.randint(0, len(text), rng.randint(1, 4)):
            mutated[place] = rng.choice(list(b'0129[]{},:"truefalsn-.e \\\xff'))
        try:
            found = Metadata.from_json(bytes(mutated))
        except CheckpointError:
            continue
        read += 1
        assert found.num_classes == len(found.labels) == len(found.palette) and isinstance(found.task, str)
    assert 0 < read < 300


def test_nobody_changes_what_was_read():
    found = Metadata.from_json(DENSE.to_json())
    for change in (lambda: found.head.update(num_classes=9), lambda: found.head["channels"].append(1)):
        with pytest.raises(AttributeError):
            change()
    with pytest.raises(TypeError):
        found.head["num_classes"] = 9
    assert hash(found) == hash(DENSE) and copy.deepcopy(found) == pickle.loads(pickle.dumps(found)) == DENSE


def test_a_heads_tuples_read_back_as_they_were():
    given = replace(DENSE, head={"num_classes": 2, "channels": (32, 64)})
    assert Metadata.from_json(given.to_json()) == given


@pytest.mark.parametrize("value", [np.zeros(3), float("nan"), {1: 2}, object(), b"x"])
def test_a_head_that_is_no_json_is_refused_where_it_is_made(value):
    with pytest.raises(CheckpointError, match="its head h"):
        replace(DENSE, head={"num_classes": 2, "x": value})
