"""Every random number of the data: its own generator for each thing that is random, whoever computes it."""

from __future__ import annotations

import numpy as np

ORDER, SAMPLE, MIX, HOLD_OUT = 1, 2, 3, 4


def generator(purpose: int, *key: int) -> np.random.Generator:
    """The generator of `purpose` (one of the above) and `key`, such as (seed, epoch, index of the sample)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((purpose, *map(int, key)))))
