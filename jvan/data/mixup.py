"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) with label smoothing, as timm 0.4.12 applies them to a batch."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np


class Mix(NamedTuple):
    """What is done to a whole global batch: `weight` of a picture beside its partner, `box` (top, bottom, left, right) cut in."""

    weight: float = 1.0
    box: tuple[int, int, int, int] | None = None

    def pictures(self, pictures: np.ndarray) -> np.ndarray:
        """Row i of (n, C, H, W) mixed with row n - 1 - i; 8-bit pictures are rounded to 8 bits again, as timm's loader does."""
        partners = pictures[::-1]
        if self.box is not None:
            top, bottom, left, right = self.box
            mixed = pictures.copy()
            mixed[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
            return mixed
        if self.weight == 1.0:
            return pictures
        own, other = np.float32(self.weight), np.float32(1.0 - self.weight)
        mixed = pictures.astype(np.float32) * own
        mixed += partners.astype(np.float32) * other
        return np.rint(mixed, out=mixed).astype(np.uint8) if pictures.dtype == np.uint8 else mixed

    def targets(self, labels: np.ndarray, classes: int, smoothing: float) -> np.ndarray:
        """float32 (n, classes), rows sum to 1, of integer labels (n,)."""
        off = smoothing / classes
        own = np.full((len(labels), classes), off, np.float32)
        own[np.arange(len(labels)), labels] = 1.0 - smoothing + off
        return own if self.weight == 1.0 else own * np.float32(self.weight) + own[::-1] * np.float32(1.0 - self.weight)


@dataclasses.dataclass(frozen=True)
class Mixup:
    """One weight and one box a batch, the partner of place i is place n - 1 - i: timm's mode "batch".

    `mixup` and `cutmix` are the alphas of the beta distributions (0: never), `switch` is the probability of
    CutMix where both are on, `prob` that of mixing at all. With both alphas 0 only labels are smoothed.
    """

    classes: int
    mixup: float = 0.8
    cutmix: float = 1.0
    prob: float = 1.0
    switch: float = 0.5
    smoothing: float = 0.1

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Mix:
        """What happens to this batch."""
        if (self.mixup <= 0 and self.cutmix <= 0) or rng.random() >= self.prob:
            return Mix()
        cut = self.cutmix > 0 and (self.mixup <= 0 or rng.random() < self.switch)
        alpha = self.cutmix if cut else self.mixup
        weight = float(rng.beta(alpha, alpha))
        return _cut(height, width, weight, rng) if cut and weight != 1.0 else Mix(weight)


def _cut(height: int, width: int, weight: float, rng: np.random.Generator) -> Mix:
    """A box of the picture's shape and 1 - weight of its area around any pixel; the weight follows what of it lies inside."""
    side = np.sqrt(1.0 - weight)
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    y, x = int(rng.integers(height)), int(rng.integers(width))
    top, bottom = max(0, y - half_height), min(height, y + half_height)
    left, right = max(0, x - half_width), min(width, x + half_width)
    return Mix(1.0 - (bottom - top) * (right - left) / (height * width), (top, bottom, left, right))
