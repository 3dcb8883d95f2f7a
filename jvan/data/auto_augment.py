"""RandAugment (arXiv 1909.13719) as timm 0.4.12 samples it: `rand-m9-mstd0.5-inc1` and its relatives."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import DataError
from .operations import INCREASING, MAX_LEVEL

PROBABILITY = 0.5  # of each chosen operation, in timm fixed
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)


def draw_filter(rng: np.random.Generator) -> int:
    """timm's interpolation "random"."""
    return FILTERS[int(rng.integers(2))]


class Step(NamedTuple):
    """One operation that is applied: its name, level 0 to 10, direction, and filter."""

    name: str
    level: float
    sign: int
    resample: int


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """`layers` operations a picture, chosen with repetition, each applied with probability 0.5 at a normal level."""

    magnitude: float = 9.0
    deviation: float = 0.5
    layers: int = 2

    def draw(self, rng: np.random.Generator) -> list[Step]:
        """What is done to one picture."""
        names = rng.integers(len(_NAMES), size=self.layers)
        steps = []
        for name in names:
            if rng.random() > PROBABILITY:
                continue
            level = min(
                MAX_LEVEL, max(0.0, rng.normal(self.magnitude, self.deviation) if self.deviation else self.magnitude)
            )
            sign = -1 if rng.random() > 0.5 else 1
            steps.append(Step(_NAMES[name], level, sign, draw_filter(rng)))
        return steps


_NAMES = tuple(INCREASING)


def apply(steps: list[Step], picture: Image.Image, fill: tuple[int, int, int]) -> Image.Image:
    """The picture after `steps`, of the same size; what comes in from outside has the colour `fill`."""
    for step in steps:
        picture = INCREASING[step.name](picture, step.level, step.sign, fill, step.resample)
    return picture


@functools.lru_cache
def parse(text: str) -> RandAugment:
    """timm's spelling: rand-mMAGNITUDE-mstdDEVIATION-nLAYERS-inc1, in any order; DataError for what is not built."""
    kind, *parts = text.split("-")
    values = {"m": MAX_LEVEL, "mstd": 0.0, "n": 2.0, "inc": 0.0}
    for part in parts:
        match = re.fullmatch(r"(mstd|inc|m|n)(\d+(?:\.\d+)?)", part)
        if match is None:
            break
        values[match[1]] = float(match[2])
    else:
        whole = values["n"] >= 1 and values["n"] == int(values["n"]) and values["m"] <= MAX_LEVEL
        if kind == "rand" and values["inc"] == 1 and whole:
            return RandAugment(values["m"], values["mstd"], int(values["n"]))
    raise DataError(f"the augmentation {text!r} is not known; take rand-m9-mstd0.5-inc1, with other numbers, or none")
