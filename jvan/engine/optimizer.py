"""AdamW (Loshchilov & Hutter, arXiv 1711.05101) with PyTorch's arithmetic and a state that can be kept."""

from __future__ import annotations

import math

import jittor as jt
import numpy as np

from ..ops.adamw import adamw
from .groups import Parameter


class AdamW:
    """Updates `parameters` in place; `betas` and `eps` are PyTorch's defaults, which the recipe uses."""

    def __init__(self, parameters: list[Parameter], weight_decay: float, betas=(0.9, 0.999), eps: float = 1e-8):
        self.parameters, self.weight_decay, self.betas, self.eps = parameters, weight_decay, betas, eps
        self.steps = 0
        self.means = [jt.zeros(p.value.shape).stop_grad() for p in parameters]
        self.squares = [jt.zeros(p.value.shape).stop_grad() for p in parameters]

    def step(self, gradients: list, lr: float) -> None:
        """One update by `gradients`, in the order of the parameters."""
        self.steps += 1
        for parameter, gradient, mean, square in zip(self.parameters, gradients, self.means, self.squares):
            rates = self._rates(lr * parameter.scale, parameter.decays)
            moved, new_mean, new_square = adamw(parameter.value, gradient, mean, square, rates)
            mean.update(new_mean)
            square.update(new_square)
            parameter.value.update(moved)
            parameter.value.start_grad()  # what was computed without gradients would have none from here on

    def _rates(self, lr: float, decays: bool) -> tuple[float, ...]:
        """What `adamw` takes at this step."""
        beta1, beta2 = self.betas
        decay = 1 - lr * self.weight_decay if decays else 1.0
        root = 1 / math.sqrt(1 - beta2**self.steps)
        rate = lr / (1 - beta1**self.steps)
        return decay, beta1, 1 - beta1, beta2, 1 - beta2, root, self.eps, rate

    def state(self) -> dict[str, dict[str, np.ndarray]]:
        """The moments, "mean" and "square", each by parameter name; `steps` is kept apart."""
        names = [parameter.name for parameter in self.parameters]
        return {kind: dict(zip(names, jt.fetch_sync(values))) for kind, values in self._moments()}

    def load(self, state: dict[str, dict[str, np.ndarray]], steps: int) -> None:
        """What `state` gave; KeyError for a name that is not there."""
        self.steps = steps
        for kind, values in self._moments():
            for parameter, value in zip(self.parameters, values):
                value.update(jt.array(state[kind][parameter.name]).stop_grad())

    def _moments(self):
        return ("mean", self.means), ("square", self.squares)


def squared_norm(gradients: list):
    """Of all of them as one vector, (1,)."""
    return sum((gradient * gradient).sum() for gradient in gradients)


def clip_gradients(gradients: list, squared_norm, largest: float) -> list:
    """All scaled by one factor where their common norm exceeds `largest` (as torch.nn.utils.clip_grad_norm_)."""
    factor = jt.minimum(largest / (squared_norm.sqrt() + 1e-6), jt.array([1.0]))
    return [gradient * factor for gradient in gradients]
