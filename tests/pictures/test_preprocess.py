"""The network's input against what torchvision made of the same pictures (weights_convert/record_preprocessing.py)."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jvan.errors import PictureError
from jvan.pictures.preprocess import crop, describe, preprocess, resized_size
from jvan.pictures.read import read_picture
from jvan.preprocessing import Preprocessing

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
RECORDED = json.loads((GOLDEN / "preprocessing.json").read_text())
CASES = [(setting, picture) for setting, pictures in RECORDED["sha256"].items() for picture in pictures]


def settings(name):
    size, crop_pct, interpolation, mean, std = RECORDED["settings"][name]
    return Preprocessing(size, crop_pct, interpolation, tuple(mean), tuple(std))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_every_picture_was_recorded():
    pictures = {f"tests/data/{p.name}" for p in (ROOT / "tests/data").iterdir() if p.suffix != ".md"}
    for recorded in RECORDED["sha256"].values():
        assert set(recorded) == pictures | {"examples/cat.jpg"}


@pytest.mark.parametrize("picture", RECORDED["sha256"]["official"])
def test_official_crop_equals_torchvision_s_to_the_pixel(picture):
    with Image.open(GOLDEN / f"{Path(picture).stem}.png") as expected:
        ours = crop(read_picture(ROOT / picture), Preprocessing())
        assert np.array_equal(np.asarray(ours), np.asarray(expected))


@pytest.mark.parametrize(("setting", "picture"), CASES)
def test_crop_and_input_equal_torchvision_s_to_the_bit(setting, picture):
    expected, rgb = RECORDED["sha256"][setting][picture], read_picture(ROOT / picture)
    assert sha256(crop(rgb, settings(setting)).tobytes()) == expected["crop"]
    array = preprocess(rgb, settings(setting))
    assert array.dtype == np.float32 and array.flags.c_contiguous
    assert sha256(array.tobytes()) == expected["input"]


@pytest.mark.parametrize(
    ("width", "height", "short", "expected"),
    [(500, 375, 248, (330, 248)), (375, 500, 248, (248, 330)), (1000, 90, 248, (2755, 248)), (7, 7, 248, (248, 248)),
     (20, 31, 248, (248, 384)), (3, 1000, 248, (248, 82666)), (99, 100, 100, (100, 101))],
)  # fmt: skip
def test_resized_size_by_hand(width, height, short, expected):
    assert resized_size(width, height, short) == expected


def test_one_pixel_and_grey_input():
    red = read_picture(np.full((1, 1, 3), (255, 0, 0), np.uint8))
    array = preprocess(red, Preprocessing(size=32))
    assert array.shape == (3, 32, 32) and (array[0] == 1).all() and (array[1:] == -1).all()
    grey = preprocess(red, Preprocessing(size=32, mean=(0.5,), std=(0.5,)))
    assert grey.shape == (1, 32, 32)
    assert np.allclose(grey, 2 * round(0.299 * 255) / 255 - 1)
    with pytest.raises(ValueError, match="2 channels"):
        preprocess(red, Preprocessing(mean=(0.5, 0.5), std=(0.5, 0.5)))


def test_a_line_is_refused_before_it_becomes_gigabytes():
    with pytest.raises(PictureError, match="20000×1"):
        crop(Image.new("RGB", (20000, 1)), Preprocessing())


def test_description_tells_all():
    assert describe(settings("official")) == (
        "short side 248 (bicubic), centre 224×224, mean (0.5, 0.5, 0.5), std (0.5, 0.5, 0.5)"
    )
