"""Predictions against arithmetic by hand, with networks whose output is known, and against recorded logits."""

import math
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jvan
from jvan.classification.predictor import Prediction, softmax
from jvan.errors import CheckpointError, JvanError, PictureError
from jvan.preprocessing import Preprocessing
from jvan.tasks import BUNDLED, Predictor
from jvan.variants import variant_config

from .networks import MeanColour

ROOT = Path(__file__).parents[2]
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


@pytest.fixture
def files(tmp_path):
    paths = {}
    for name, colour in COLOURS.items():
        paths[name] = str(tmp_path / f"{name}.png")
        Image.new("RGB", (40, 33), colour).save(paths[name])
    return paths


def names(results):
    return [[prediction.label for prediction in result] for result in results]


def test_probabilities_by_hand(files):
    (result,) = Predictor.from_model(MeanColour(scale=2.0))(files["green"])
    total = math.exp(2) + 2 * math.exp(-2)
    assert [(p.index, p.label, p.wnid) for p in result] == [(1, "g", None), (0, "r", None), (2, "b", None)]
    assert [p.probability for p in result] == pytest.approx(
        [math.exp(2) / total] + 2 * [math.exp(-2) / total], rel=1e-6
    )


def test_every_kind_of_input_gives_a_list_of_lists(files):
    predictor = Predictor.from_model(MeanColour())
    array = np.zeros((9, 9, 3), np.uint8)
    array[..., 1] = 255
    expected = predictor([files["green"]])
    assert len(expected) == 1 and names(expected) == [["g", "r", "b"]]
    with Image.open(files["green"]) as image:
        for given in (files["green"], Path(files["green"]), image, array, [image], (array,)):
            assert predictor(given) == expected
    assert predictor([]) == []


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_order_and_batches(files, batch_size):
    model = MeanColour()
    order = ["red", "green", "blue", "green", "red", "blue", "blue"]
    results = Predictor.from_model(model, batch_size=batch_size)([files[name] for name in order], topk=1)
    assert names(results) == [[name[0]] for name in order]
    assert sum(model.batches) == 7 and set(model.batches[:-1]) <= {batch_size}


def test_topk_is_clipped_and_checked(files):
    predictor = Predictor.from_model(MeanColour())
    assert [len(predictor(files["red"], topk=k)[0]) for k in (1, 2, 3, 9)] == [1, 2, 3, 3]
    for wrong in (0, -1, 1.5, "3"):
        with pytest.raises(ValueError, match="topk"):
            predictor(files["red"], topk=wrong)


def test_bad_pictures_raise_or_are_handed_on_in_place(files, tmp_path):
    broken, line = tmp_path / "broken.jpg", tmp_path / "line.png"
    broken.write_bytes(b"\xff\xd8\xff")
    Image.new("RGB", (900_000, 1)).save(line)
    predictor = Predictor.from_model(MeanColour(preprocessing=Preprocessing()), batch_size=2)
    for path in (broken, line):
        with pytest.raises(PictureError, match=path.name):
            predictor([files["red"], path])
    given = [files["red"], broken, line, files["blue"], PictureError("known"), files["green"], tmp_path]
    results = list(predictor.stream(given, topk=1))
    assert [source for source, _ in results] == given
    kinds = [result[0].label if isinstance(result, list) else str(result) for _, result in results]
    assert [kinds[i] for i in (0, 3, 4, 5)] == ["r", "b", "known", "g"]
    assert all(str(given[i]) in kinds[i] for i in (1, 2, 6))
    assert predictor.model.batches[-2:] == [2, 1]


def test_crops_without_pixels_and_pictures_beyond_the_users_limit_stop_no_others(files):
    good = Image.new("RGB", (40, 33), COLOURS["red"])
    given = [good, good.crop((5, 5, 5, 20)), Image.new("RGB", (41, 33)), np.zeros((41, 33), np.uint8), good]
    predictor = Predictor.from_model(MeanColour(), max_pixels=40 * 33)
    results = [result for _, result in predictor.stream(given, topk=1)]
    assert [results[i][0].label for i in (0, 4)] == ["r", "r"]
    assert "0×15 pixels" in str(results[1]) and all("1,320 pixels" in str(results[i]) for i in (2, 3))
    for wrong in (0, "9", 1.5):
        with pytest.raises(ValueError, match="max_pixels"):
            Predictor.from_model(MeanColour(), max_pixels=wrong)


def test_a_long_stream_is_not_held_in_memory(files):
    drawn = 0

    def endless():
        nonlocal drawn
        while True:
            drawn += 1
            yield files["red"]

    stream = Predictor.from_model(MeanColour(), batch_size=4).stream(endless())
    for _ in range(20):
        next(stream)
    assert drawn <= 20 + 4 * 4
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("jvan-picture")]


def test_train_mode_is_left(files):
    model = MeanColour()
    predictor = Predictor.from_model(model)
    model.train()
    predictor(files["red"])


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_output_that_is_not_finite_is_an_error(files, scale):
    with pytest.raises(JvanError, match="not finite"):
        Predictor.from_model(MeanColour(scale=scale))(files["red"])


def test_softmax_of_huge_logits_in_double_precision():
    logits = np.array([[1e30, -1e30, 0], [700, 700, 701]], np.float32)
    probabilities = softmax(logits)
    assert probabilities.dtype == np.float64
    assert np.allclose(probabilities, [[1, 0, 0], np.array([1, 1, math.e]) / (2 + math.e)], rtol=1e-12)


def test_labels_come_from_the_user_or_the_weights(files, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("n02124075 rot\ngrün\nblau\n", encoding="utf-8")
    for labels, expected in [
        (path, ("rot", "n02124075")),
        (str(path), ("rot", "n02124075")),
        (["x", "y", "z"], ("x", None)),
    ]:
        ((best, *_),) = Predictor.from_model(MeanColour(), labels=labels)(files["red"])
        assert (best.label, best.wnid) == expected
    ((best, *_),) = Predictor.from_model(MeanColour(labels=None))(files["red"])
    assert best.label == "class 0"
    for labels in (["x"], ["x"] * 4):
        with pytest.raises(JvanError, match=f"{len(labels)} labels, but the network has 3 classes"):
            Predictor.from_model(MeanColour(), labels=labels)


def test_networks_that_cannot_classify_pictures():
    config = variant_config("van_b0", num_classes=0)
    with pytest.raises(CheckpointError, match="without a classification head"):
        Predictor.from_model(MeanColour(config=config, labels=None))
    config = variant_config("van_b0", num_classes=3, in_chans=5)
    with pytest.raises(CheckpointError, match="5 channels"):
        Predictor.from_model(MeanColour(config=config))
    with pytest.raises(ValueError, match="batch_size"):
        Predictor.from_model(MeanColour(), batch_size=0)


def test_grey_networks_get_grey(files):
    config = variant_config("van_b0", num_classes=1, in_chans=1)
    grey = Preprocessing(size=32, mean=(0.5,), std=(0.5,))
    predictor = Predictor.from_model(MeanColour(config=config, preprocessing=grey, labels=("light",)))
    assert predictor(files["white"]) == [[Prediction(0, "light", 1.0)]]


def test_the_bundled_network_knows_a_cat():
    (result,) = jvan.Predictor(device="cpu")(ROOT / "examples" / "cat.jpg", topk=10)
    assert result[0].label == "cat" and result[0].probability > 0.5
    assert sum(prediction.probability for prediction in result) == pytest.approx(1)


def test_probabilities_are_those_of_the_recorded_logits():
    model = jvan.create_model(weights=ROOT / "tests/golden/van_b0_untrained.safetensors")
    model.metadata = replace(model.metadata, preprocessing=Preprocessing(crop_pct=1.0))
    predictor = jvan.Predictor(model=model)
    logits = np.load(ROOT / "tests/golden/van_b0_untrained.npz")["224x224/logits"].astype(np.float64)
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    (result,) = predictor(ROOT / "tests/golden/chelsea_224x224.png", topk=1000)
    ours = np.zeros(1000)
    for prediction in result:
        ours[prediction.index] = prediction.probability
    assert np.abs(np.log(ours) - np.log(expected)).max() < 1e-4 * np.abs(logits).max()
    assert [prediction.index for prediction in result[:5]] == list(np.argsort(-expected)[:5])
    assert all(prediction.wnid and prediction.label for prediction in result)


def test_weights_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(JvanError, match=r"none\.safetensors"):
        Predictor(weights=tmp_path / "none.safetensors")
    with pytest.raises(JvanError, match="van_b6"):
        Predictor("van_b6")
    monkeypatch.setattr("jvan.tasks.BUNDLED", tmp_path / BUNDLED.name)
    with pytest.raises(CheckpointError, match="reinstall"):
        Predictor()


@pytest.mark.filterwarnings("ignore:bfloat16 saves no time")  # on a processor without units for it
def test_precision():
    """bfloat16 everywhere; float16 on the CPU is one line that says what to take."""
    predictor = Predictor(device="cpu", dtype="bfloat16")
    assert "bfloat16" in predictor.model.arithmetic
    assert f"arithmetic: {predictor.model.arithmetic}" in predictor.describe()
    assert "arithmetic: float32" in Predictor(device="cpu").describe()
    for dtype in ("float16", "int8"):
        with pytest.raises(JvanError, match=f"{dtype}.* choose .*bfloat16"):
            Predictor(device="cpu", dtype=dtype)
