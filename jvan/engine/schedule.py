"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from .config import TrainConfig


def learning_rate(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Of the update after `step` others: linear from `low_lr` to `peak_lr`, a cosine back down, then `low_lr`.

    The cosine spans `epochs` less the cool-down, warm-up included, as timm 0.4.12's scheduler does
    (warmup_prefix off); there it moves once an epoch, here at every step.
    """
    epoch, peak = step / steps_per_epoch, config.peak_lr
    low = min(config.low_lr, peak)
    last = config.epochs - config.cooldown_epochs
    if epoch < config.warmup_epochs:
        return low + (peak - low) * epoch / config.warmup_epochs
    if epoch >= last:
        return low
    return low + (peak - low) * 0.5 * (1 + math.cos(math.pi * epoch / last))
