"""From a picture to the network's input: at random for training, always the same for evaluation."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from PIL import Image, ImageEnhance

from ..pictures.geometry import Geometry
from ..pictures.preprocess import preprocess, short_side
from ..preprocessing import Preprocessing
from . import auto_augment, crops, erasing

JITTERED = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """What inference does to a picture (`jvan.pictures.preprocess`): float32 (C, S, S); nothing is random."""

    preprocessing: Preprocessing

    @property
    def shape(self) -> tuple[int, int, int]:
        return (len(self.preprocessing.mean), self.preprocessing.size, self.preprocessing.size)

    @property
    def short(self) -> int:
        """To what the short side of a whole picture is resized."""
        return short_side(self.preprocessing)

    def __call__(self, picture: Image.Image, rng: np.random.Generator | None = None) -> np.ndarray:
        return preprocess(picture, self.preprocessing)


@dataclasses.dataclass(frozen=True)
class Augment:
    """What happens to a training picture, RGB in, float32 (3, S, S) out: timm 0.4.12's training transform.

    Crop, flip, RandAugment (or, without it, colour jitter: timm never applies both), normalisation, erasing.
    `crop` is "resized" (any part, resized) or, for small pictures, "reflected" (`padding` of the picture's own pixels
    around it, and any place of its size). Each filter is bilinear or bicubic, by lot.
    """

    size: int = 224
    crop: str = "resized"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    padding: int = 4
    flip: float = 0.5
    color_jitter: float = 0.4
    auto_augment: str | None = "rand-m9-mstd0.5-inc1"
    reprob: float = 0.25
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self):
        if self.crop not in ("resized", "reflected"):
            raise ValueError(f'crop is {self.crop!r}; it is "resized" or "reflected"')
        if self.auto_augment:
            auto_augment.parse(self.auto_augment)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, self.size, self.size)

    @property
    def short(self) -> int:
        """Of a whole picture whose smallest part still has the network's size."""
        return round(self.size / math.sqrt(self.scale[0])) if self.crop == "resized" else self.size

    def __call__(self, picture: Image.Image, rng: np.random.Generator) -> np.ndarray:
        return self.finish(self.pixels(picture, rng), rng)

    def pixels(self, picture: Image.Image, rng: np.random.Generator) -> np.ndarray:
        """Everything up to the mixing with another picture: uint8 (3, S, S)."""
        geometry, resample = self.draw(picture.size, rng)
        picture = geometry.picture(picture, resample, crops.reflection)
        if self.auto_augment:
            steps = auto_augment.parse(self.auto_augment).draw(rng)
            picture = auto_augment.apply(steps, picture, self._fill)
        elif self.color_jitter:
            picture = jitter(picture, self.color_jitter, rng)
        return np.asarray(picture).transpose(2, 0, 1)

    def finish(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The rest: 8-bit pixels (3, S, S), mixed or not, normalised, and perhaps erased in part."""
        mean, deviation = _columns(self.mean, self.std)
        finished = pixels.astype(np.float32)
        finished /= np.float32(255)
        finished -= mean
        finished /= deviation
        if self.reprob:
            erasing.erase(finished, self.reprob, rng)
        return finished

    @property
    def _fill(self) -> tuple[int, ...]:
        """The mean colour: what an operation draws in from outside is then near 0."""
        return tuple(min(255, round(255 * value)) for value in self.mean)

    def draw(self, source: tuple[int, int], rng: np.random.Generator) -> tuple[Geometry, int]:
        """(where the pixels of a picture of `source`, (width, height), go; the filter that resizes it)."""
        if self.crop == "resized":
            geometry = crops.resized_crop(source, self.size, self.scale, self.ratio, rng)
            resample = auto_augment.draw_filter(rng)
        else:
            resample = auto_augment.draw_filter(rng)
            geometry = crops.reflected_crop(source, self.size, self.padding, rng)
        return dataclasses.replace(geometry, mirrored=rng.random() < self.flip), resample


def jitter(picture: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Brightness, contrast and saturation by factors within 1 ± `strength`, in random order: torchvision's ColorJitter."""
    low, high = max(0.0, 1 - strength), 1 + strength
    for kind in rng.permutation(3):
        picture = JITTERED[kind](picture).enhance(rng.uniform(low, high))
    return picture


@functools.lru_cache
def _columns(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (mean, std))
    return mean, std
