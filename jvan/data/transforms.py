"""From a picture to the network's input: at random for training, always the same for evaluation."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from ..checkpoints.metadata import Preprocessing
from ..inference.preprocess import preprocess


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """What inference does to a picture (`jvan.inference.preprocess`): float32 (C, S, S); nothing is random."""

    preprocessing: Preprocessing

    @property
    def shape(self) -> tuple[int, int, int]:
        return (len(self.preprocessing.mean), self.preprocessing.size, self.preprocessing.size)

    def __call__(self, picture: Image.Image, rng: np.random.Generator | None = None) -> np.ndarray:
        return preprocess(picture, self.preprocessing)
