"""Stochastic depth whose masks depend on seed, step and a sample's place in the global batch, and on nothing else.

Neither the number of processes nor the parts that a batch is computed in changes them, and a resumed run repeats them.
"""

from __future__ import annotations

import jittor as jt
import numpy as np

from ..models.layers import DropPath

DROP_PATH = 5  # the stream of random numbers; jvan.data.seeds has others


class DropPathMasks:
    """Draws the masks of a step for every module of `model` that has a `drop_path`, and makes these modules ask it."""

    def __init__(self, model, seed: int, batch_size: int, places: np.ndarray):
        self.seed, self.batch_size, self.places = seed, batch_size, places
        blocks = [module for module in model.modules() if isinstance(getattr(module, "drop_path", None), DropPath)]
        for index, block in enumerate(blocks):
            block.drop_path = PlannedDropPath(block.drop_path.rate, self, index)
        self._count = 2 * len(blocks)

    def begin(self, step: int, part: slice = slice(None)) -> None:
        """Draw for the update after `step` others, for these of the process's places."""
        numbers = np.random.default_rng((DROP_PATH, self.seed, step)).random((self._count, self.batch_size), np.float32)
        self.numbers = numbers[:, self.places[part]]


class PlannedDropPath(DropPath):
    """A block's drop path; it is asked twice a forward pass, by the attention's branch and by the feed-forward's."""

    def __init__(self, rate: float, plan: DropPathMasks, index: int):
        super().__init__(rate)
        self._plan, self._index, self._asked = plan, index, 0

    def factors(self, batch: int):
        if not self.drops:
            return jt.ones((batch,))
        # A block that is computed again for its gradient asks in the same order.
        row = 2 * self._index + self._asked % 2
        self._asked += 1
        keep = 1 - self.rate
        return jt.array((self._plan.numbers[row] < keep).astype(np.float32) / np.float32(keep))
