"""Numbers out of rounds: medians, ratios and the difference between two engines' outputs."""

from __future__ import annotations

from statistics import median

import numpy as np


def typical(rounds: list[list[float]]) -> float:
    """The median of the rounds' medians, in seconds."""
    return median(median(times) for times in rounds)


def ratios(ours: list[list[float]], theirs: list[list[float]]) -> list[float]:
    """jvan's median ÷ the peer's, for each round that both finished: what drifts slows both and cancels."""
    return [median(a) / median(b) for a, b in zip(ours, theirs)]


def largest_difference(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """The largest difference of any output, each relative to jvan's largest number in it.

    A gradient that is zero up to rounding (of a bias before BatchNorm) has no scale of its own: the scale
    is at least 1e-2 of the largest one among all gradients. Infinite where an output is missing, misshapen or not finite.
    """
    if ours.keys() != theirs.keys():
        return float("inf")
    floor = 1e-2 * max((float(np.abs(a).max()) for name, a in ours.items() if name != "logits"), default=0.0)
    worst = 0.0
    for name, a in ours.items():
        b = theirs[name]
        if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
            return float("inf")
        scale = max(float(np.abs(a).max()), floor if name != "logits" else 0.0, 1e-30)
        worst = max(worst, float(np.abs(a.astype(np.float64) - b).max()) / scale)
    return worst
