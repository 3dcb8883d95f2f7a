"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math


def learning_rate(step: int, steps_per_epoch: int, *, peak, low, epochs, warmup_epochs, cooldown_epochs) -> float:
    """Of the update after `step` others: linear from `low` to `peak`, a cosine down to `low`, then `low`.

    The cosine spans `epochs` less the cool-down, warm-up included, as timm 0.4.12's scheduler does
    (warmup_prefix off); there it moves once an epoch, here at every step.
    """
    epoch = step / steps_per_epoch
    if epoch < warmup_epochs:
        return low + (peak - low) * epoch / warmup_epochs
    if epoch >= epochs - cooldown_epochs:
        return low
    return low + (peak - low) * 0.5 * (1 + math.cos(math.pi * epoch / (epochs - cooldown_epochs)))
