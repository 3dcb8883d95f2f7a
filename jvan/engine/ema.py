"""Averaged weights."""

from __future__ import annotations

import jittor as jt
import numpy as np


class Ema:
    """An exponential moving average of a model's parameters, and of its BatchNorm statistics.

    The decay rises to `decay` as (1 + steps) / (10 + steps), so that the first, poor weights are soon forgotten
    (timm's and TensorFlow's warm-up).
    """

    def __init__(self, model, decay: float):
        self.decay, self.steps = decay, 0
        self._sources = dict(model.named_parameters())
        self._averages = {name: value.detach().copy().stop_grad() for name, value in self._sources.items()}
        jt.sync(list(self._averages.values()))

    def update(self) -> None:
        """Take one step's weights in."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, average in self._averages.items():
            average.update(average + (self._sources[name].detach() - average) * (1 - decay))

    def state(self) -> dict[str, np.ndarray]:
        """The averages under the model's names."""
        return dict(zip(self._averages, jt.fetch_sync(list(self._averages.values()))))

    def load(self, state: dict[str, np.ndarray], steps: int) -> None:
        """What `state` gave; KeyError for a name that is not there."""
        self.steps = steps
        for name, average in self._averages.items():
            average.update(jt.array(state[name]).stop_grad())
