"""The gradient of one global batch."""

from __future__ import annotations

import math
from typing import NamedTuple

import jittor as jt
import numpy as np

from ..ops.cuda.launch import rounded
from .drop_path import DropPathMasks
from .groups import Parameter
from .optimizer import squared_norm
from .parallel import Processes


class Flags(NamedTuple):
    """What a process tells the others with its gradients; of the exchange, what any of them told.

    It wants to stop after this step; it has met unreadable pictures that the others do not know of; it has failed.
    """

    stop: bool = False
    unreadable: bool = False
    failed: bool = False

    def to_array(self) -> np.ndarray:
        return np.array(self, np.float32)

    @classmethod
    def from_array(cls, means: np.ndarray) -> Flags:
        return cls(*map(bool, means))


NO_FLAGS = Flags()


class Outcome(NamedTuple):
    """A batch's mean loss and its named parts, its gradients in the order of the parameters, the square of their common norm, (1,),
    whether all is finite, and what the processes told each other."""

    loss: float
    parts: dict[str, float]
    gradients: list
    squared_norm: jt.Var
    finite: bool
    flags: Flags


def all_finite(gradients: list, squared_norm: float) -> bool:
    """Whether all of them are, by their norm where that tells: no gradient of 100 MB need be copied from the device.

    Fast math may turn a NaN into a number where it compares, not where it adds squares. A square that overflows (of 2e19 and
    more) looks like an infinity, so then every number is looked at.
    """
    return math.isfinite(squared_norm) or all(np.isfinite(values).all() for values in jt.fetch_sync(gradients))


class Gradients:
    """Computes them in `parts` parts of the batch, over all processes; BatchNorm's running statistics move along.

    `loss(model, pictures, targets)` gives a part's mean loss and its named parts, which must be `losses`.
    The statistics of several processes are averaged at every step, so that all hold the same. Maps are of `dtype`;
    parameters, the loss and what comes back are float32.
    """

    def __init__(
        self, model, parameters: list[Parameter], plan: DropPathMasks, processes: Processes, parts: int, loss,
        losses: tuple[str, ...] = (), dtype="float32",
    ):  # fmt: skip
        self.model, self.plan, self.processes, self.parts, self.dtype = model, plan, processes, parts, dtype
        self.loss, self.losses = loss, losses
        self.variables = [parameter.value for parameter in parameters]
        self.running = [value for name, value in model.named_parameters() if ".running_" in name]
        self._before = []

    def __call__(self, batch, step: int, scale: float = 1.0, flags: Flags = NO_FLAGS) -> Outcome:
        """Of `batch`, this process's share; nothing but the running statistics has changed afterwards.

        The backward pass goes through `scale` times the loss, and what it finds is divided by that, both exactly for a power of two.
        """
        self._before = [value.detach() for value in self.running]
        sums, gradients = [0.0] * (1 + len(self.losses)), None
        size = len(batch.pictures) // self.parts
        for part in (slice(i * size, (i + 1) * size) for i in range(self.parts)):
            self.plan.begin(step, part)
            pictures = rounded(jt.array(batch.pictures[part]), self.dtype)
            term, named = self.loss(self.model, pictures, batch.targets[part])
            term = term / self.parts
            found = jt.grad(term if scale == 1 else term * scale, self.variables)
            terms = [term, *(named[name] / self.parts for name in self.losses)]
            jt.sync([*terms, *found, *self.running])
            sums = [a + b.detach() for a, b in zip(sums, terms)]
            gradients = found if gradients is None else [a + b for a, b in zip(gradients, found)]
        if scale != 1:
            gradients = [gradient * (1 / scale) for gradient in gradients]
        count = len(sums)
        told, *rest = self._exchange(flags, [*sums, *gradients])
        sums, gradients, running = rest[:count], rest[count : count + len(gradients)], rest[count + len(gradients) :]
        for value, mean in zip(self.running, running):
            if mean is not value:
                value.update(mean)
        square = squared_norm(gradients)
        jt.sync([*sums, told, square, *gradients, *self.running])
        loss, *named = (float(value.numpy().item()) for value in sums)
        finite = math.isfinite(loss) and all_finite(gradients, float(square.numpy().item()))
        parts = dict(zip(self.losses, named))
        return Outcome(loss, parts, gradients, square, finite, Flags.from_array(told.numpy()))

    def join_without_batch(self) -> None:
        """Take part without a batch, where the others wait: they learn that this process has failed."""
        nothing = [jt.zeros(1)] * (1 + len(self.losses)) + [jt.zeros(v.shape) for v in self.variables]
        jt.sync(self._exchange(Flags(failed=True), nothing))

    def _exchange(self, flags: Flags, values: list) -> list:
        """Each one's mean over the processes: the flags, the values, the running statistics."""
        return self.processes.mean([jt.array(flags.to_array()), *values, *self.running])

    def undo(self) -> None:
        """Put the running statistics back as they were before the last call."""
        for value, before in zip(self.running, self._before):
            value.update(before)
