"""Networks in which every tensor is random, so that none of them can be left out unseen."""

import numpy as np

from weights_convert.random_state import random_state, stream


def random_tensors(shapes: dict[str, tuple]) -> dict[str, np.ndarray]:
    """Every tensor random, BatchNorm's statistics too."""
    state = random_state(shapes)
    for name, shape in shapes.items():
        if name.endswith("running_mean"):
            state[name] = stream(name).standard_normal(shape)
        elif name.endswith("running_var"):
            state[name] = stream(name).uniform(0.5, 2, shape)
    return state
