"""Random crops: Inception's, resized (torchvision's and timm's RandomResizedCrop), and CIFAR's, shifted."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from ..errors import PictureError
from ..inference.preprocess import MAX_RESIZED_PIXELS, resized_size

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


def resized_crop(picture: Image.Image, box: tuple[int, int, int, int], size: int, resample: int) -> Image.Image:
    """The part (top, left, height, width) as size × size pixels."""
    top, left, tall, wide = box
    if box != (0, 0, picture.height, picture.width):
        picture = picture.crop((left, top, left + wide, top + tall))
    return picture if picture.size == (size, size) else picture.resize((size, size), resample)


def reflected_crop(
    picture: Image.Image, size: int, padding: int, resample: int, rng: np.random.Generator
) -> Image.Image:
    """A random size × size part of the picture with `padding` reflected pixels around it.

    A picture of another size is first resized so that its short side fits; PictureError where it is too thin for that.
    """
    if min(picture.size) != size:
        wanted = resized_size(*picture.size, size)
        if wanted[0] * wanted[1] > MAX_RESIZED_PIXELS:
            raise PictureError(f"{picture.width}×{picture.height} pixels are too thin; cut it first")
        picture = picture.resize(wanted, resample)
    top = int(rng.integers(picture.height + 2 * padding - size + 1))
    left = int(rng.integers(picture.width + 2 * padding - size + 1))
    sides = ((padding, padding), (padding, padding), (0, 0))
    pixels = np.pad(np.asarray(picture), sides, mode="symmetric" if size <= padding else "reflect")
    return Image.fromarray(pixels[top : top + size, left : left + size])
