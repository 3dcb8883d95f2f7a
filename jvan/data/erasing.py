"""Random erasing (arXiv 1708.04896) by pixel, as timm 0.4.12 does it: once a picture, after normalisation."""

from __future__ import annotations

import math

import numpy as np

AREA = (0.02, 1 / 3)
LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))
ATTEMPTS = 10


def draw_box(height: int, width: int, probability: float, rng: np.random.Generator) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of what is erased, smaller than the picture in both; None for nothing."""
    if rng.random() > probability:
        return None
    for _ in range(ATTEMPTS):
        area = rng.uniform(*AREA) * height * width
        aspect = math.exp(rng.uniform(*LOG_ASPECT))
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if tall < height and wide < width:
            return int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1)), tall, wide
    return None


def erase(picture: np.ndarray, probability: float, rng: np.random.Generator) -> None:
    """Put standard normal noise into a box of the normalised picture (C, H, W), float32, in place."""
    box = draw_box(*picture.shape[1:], probability, rng)
    if box is not None:
        top, left, tall, wide = box
        noise = rng.standard_normal((len(picture), tall, wide), dtype=np.float32)
        picture[:, top : top + tall, left : left + wide] = noise
