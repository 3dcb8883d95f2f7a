"""From a picture to the network's input, equal to the original evaluation pipeline's."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..errors import PictureError
from ..preprocessing import Preprocessing
from .geometry import Geometry

_MODES = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# A line of 20,000×1 pixels would become 5 million × 248 before its centre is cut out.
MAX_RESIZED_PIXELS = 2**26


def resized_size(width: int, height: int, short: int) -> tuple[int, int]:
    """(width, height) with the short side `short`; the long side is cut off to an integer.

    As torchvision's Resize(short) computes it: the product comes before the division.
    """
    long = int(short * max(width, height) / min(width, height))
    return (short, long) if width <= height else (long, short)


def short_side(preprocessing: Preprocessing) -> int:
    """To what the short side of a picture is resized."""
    return int(preprocessing.size / preprocessing.crop_pct)


def centre(source: tuple[int, int], preprocessing: Preprocessing) -> Geometry:
    """Where the pixels of a picture of `source`, (width, height), go; PictureError if it has none or is too thin.

    The centre square of `preprocessing.size` after resizing: torchvision's Resize and CenterCrop on a PIL image. The short
    side is never below the crop's, since crop_pct is at most 1, so nothing is padded.
    """
    size = preprocessing.size
    if 0 in source:
        raise PictureError(f"{source[0]}×{source[1]} pixels are no picture")
    width, height = resized_size(*source, short_side(preprocessing))
    if width * height > MAX_RESIZED_PIXELS:
        raise PictureError(
            f"{source[0]}×{source[1]} pixels are too thin: with its short side resized for the network's {size} "
            f"this picture would be {width}×{height}; cut it first"
        )
    left, top = round((width - size) / 2), round((height - size) / 2)
    return Geometry(source, (0, 0, *source), (width, height), (left, top, left + size, top + size))


def crop(picture: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The picture's square that the network sees, still 8-bit pixels."""
    return centre(picture.size, preprocessing).picture(picture, _MODES[preprocessing.interpolation])


def preprocess(picture: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """An RGB picture as float32 (3, H, W): cropped, scaled to [0, 1], mean and std taken out.

    (1, H, W), of grey, where `preprocessing` has one mean; ValueError for any other number of channels.
    """
    channels = len(preprocessing.mean)
    if channels not in (1, 3):
        raise ValueError(f"the network takes {channels} channels; a picture has 3, or 1 as grey")
    cropped = crop(picture if channels == 3 else picture.convert("L"), preprocessing)
    pixels = np.asarray(cropped, dtype=np.float32).reshape(*cropped.size[::-1], channels).transpose(2, 0, 1)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return np.ascontiguousarray((pixels / np.float32(255) - mean) / std)


def describe(preprocessing: Preprocessing) -> str:
    """One line that tells the user what happens to a picture."""
    short = short_side(preprocessing)
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    return (
        f"short side {short} ({preprocessing.interpolation}), centre {preprocessing.size}×{preprocessing.size}, "
        f"mean ({mean}), std ({std})"
    )
