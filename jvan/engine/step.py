"""The gradient of one global batch."""

from __future__ import annotations

import math
from typing import NamedTuple

import jittor as jt
import numpy as np

from ..ops.cuda.run import rounded
from .drop_path import DropPathPlan
from .groups import Parameter
from .loss import soft_cross_entropy
from .optimizer import squared_norm
from .parallel import Processes


class Outcome(NamedTuple):
    """A batch's mean loss, its gradients in the order of the parameters, the square of their common norm, (1,), whether all is finite,
    and whether a process wants to stop, has news for the others, or has failed."""

    loss: float
    gradients: list
    squared_norm: jt.Var
    finite: bool
    stop: bool
    news: bool = False
    failed: bool = False


def all_finite(gradients: list, squared_norm: float) -> bool:
    """Whether all of them are, by their norm where that tells: no gradient of 100 MB need be copied from the device.

    Fast math may turn a NaN into a number where it compares, not where it adds squares. A square that overflows (of 2e19 and
    more) looks like an infinity, so then every number is looked at.
    """
    return math.isfinite(squared_norm) or all(np.isfinite(values).all() for values in jt.fetch_sync(gradients))


class Gradients:
    """Computes them in `parts` parts of the batch, over all processes; BatchNorm's running statistics move along.

    The statistics of several processes are averaged at every step, so that all hold the same. Maps are of `dtype`;
    parameters, the loss and what comes back are float32.
    """

    def __init__(
        self, model, parameters: list[Parameter], plan: DropPathPlan, processes: Processes, parts: int, dtype="float32"
    ):
        self.model, self.plan, self.processes, self.parts, self.dtype = model, plan, processes, parts, dtype
        self.variables = [parameter.value for parameter in parameters]
        self.running = [value for name, value in model.named_parameters() if ".running_" in name]
        self._before = []

    def __call__(self, batch, step: int, stop: bool, scale: float = 1.0, news: bool = False) -> Outcome:
        """Of `batch`, this process's share; nothing but the running statistics has changed afterwards.

        The backward pass goes through `scale` times the loss, and what it finds is divided by that, both exactly for a power of two.
        """
        self._before = [value.detach() for value in self.running]
        loss, gradients = 0.0, None
        size = len(batch.pictures) // self.parts
        for part in (slice(i * size, (i + 1) * size) for i in range(self.parts)):
            self.plan.begin(step, part)
            logits = self.model(rounded(jt.array(batch.pictures[part]), self.dtype))
            term = soft_cross_entropy(logits, jt.array(batch.targets[part])) / self.parts
            found = jt.grad(term if scale == 1 else term * scale, self.variables)
            jt.sync([term, *found, *self.running])
            loss = loss + term.detach()
            gradients = found if gradients is None else [a + b for a, b in zip(gradients, found)]
        if scale != 1:
            gradients = [gradient * (1 / scale) for gradient in gradients]
        loss, wish, *rest = self._exchange(loss, [stop, news, False], gradients)
        gradients, running = rest[: len(gradients)], rest[len(gradients) :]
        for value, mean in zip(self.running, running):
            if mean is not value:
                value.update(mean)
        square = squared_norm(gradients)
        jt.sync([loss, wish, square, *gradients, *self.running])
        loss = float(loss.numpy().item())
        finite = math.isfinite(loss) and all_finite(gradients, float(square.numpy().item()))
        return Outcome(loss, gradients, square, finite, *map(bool, wish.numpy()))

    def absent(self) -> None:
        """Take part without a batch, where the others wait: they learn that this process has failed."""
        jt.sync(self._exchange(jt.zeros(1), [False, False, True], [jt.zeros(v.shape) for v in self.variables]))

    def _exchange(self, loss, wish: list[bool], gradients: list) -> list:
        return self.processes.mean([loss, jt.array(np.array(wish, np.float32)), *gradients, *self.running])

    def undo(self) -> None:
        """Put the running statistics back as they were before the last call."""
        for value, before in zip(self.running, self._before):
            value.update(before)
