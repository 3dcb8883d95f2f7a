"""The loss scale of float16: small gradients times it do not vanish, and it follows what the large ones overflow at."""

from __future__ import annotations

from typing import NamedTuple

FIRST = 2.0**16  # as PyTorch's GradScaler begins
LARGEST = 2.0**32  # far from what float32, in which the loss is multiplied, can hold
PATIENCE = 2000  # steps without overflow after which it doubles (Micikevicius et al., arXiv 1710.03740, section 3.2)


class LossScale(NamedTuple):
    """A power of two, and how many steps have gone well with it. Below 1 it can no longer help: something else is wrong."""

    value: float = 1.0
    good: int = 0

    def after(self, finite: bool) -> LossScale:
        """The scale for the step after one whose gradients were all finite, or not."""
        if not finite:
            return LossScale(self.value / 2)
        if self.good + 1 < PATIENCE:
            return LossScale(self.value, self.good + 1)
        return LossScale(min(2 * self.value, LARGEST))
