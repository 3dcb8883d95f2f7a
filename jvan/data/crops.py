"""Random crops: Inception's, resized (torchvision's and timm's RandomResizedCrop), and CIFAR's, shifted."""

from __future__ import annotations

import math

import numpy as np

from ..errors import PictureError
from ..pictures.geometry import Geometry
from ..pictures.preprocess import MAX_RESIZED_PIXELS, resized_size

ATTEMPTS = 10


def draw_crop(width: int, height: int, scale, ratio, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a part of the picture: its area uniform in `scale`, its aspect log-uniform in `ratio`.

    After ten that do not fit, the largest centred one with an aspect inside `ratio`.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(ATTEMPTS):
        area = rng.uniform(*scale) * width * height
        aspect = math.exp(rng.uniform(low, high))
        wide, tall = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        # A picture of a few pixels can round to nothing, where the original would fail.
        if 0 < wide <= width and 0 < tall <= height:
            return int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1)), tall, wide
    wide, tall = width, height
    if width / height < ratio[0]:
        tall = round(width / ratio[0])
    elif width / height > ratio[1]:
        wide = round(height * ratio[1])
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def resized_crop(source: tuple[int, int], size: int, scale, ratio, rng: np.random.Generator) -> Geometry:
    """A drawn part of a picture of `source`, (width, height), as size × size pixels."""
    top, left, tall, wide = draw_crop(*source, scale, ratio, rng)
    return Geometry.resize(source, (size, size), (left, top, left + wide, top + tall))


def reflected_crop(source: tuple[int, int], size: int, padding: int, rng: np.random.Generator) -> Geometry:
    """A random size × size part of the picture with `padding` pixels around it, to be filled by `reflection`.

    A picture of another size is first resized so that its short side fits; PictureError where it is too thin for that.
    """
    width, height = source if min(source) == size else resized_size(*source, size)
    if width * height > MAX_RESIZED_PIXELS:
        raise PictureError(f"{source[0]}×{source[1]} pixels are too thin; cut it first")
    top = int(rng.integers(height + 2 * padding - size + 1)) - padding
    left = int(rng.integers(width + 2 * padding - size + 1)) - padding
    return Geometry(source, (0, 0, *source), (width, height), (left, top, left + size, top + size))


def reflection(pixels: np.ndarray, outside: tuple[int, int, int, int]) -> np.ndarray:
    """Rows and columns above, below, left and right of (h, w, 3), mirrored at the edge; a tiny picture repeats its edge."""
    sides = (outside[:2], outside[2:], (0, 0))
    return np.pad(pixels, sides, mode="symmetric" if min(pixels.shape[:2]) <= max(outside) else "reflect")
