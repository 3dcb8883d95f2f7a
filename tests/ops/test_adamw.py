"""One step of AdamW against float64."""

import jittor as jt
import numpy as np
import pytest

from jvan.ops.adamw import adamw_fused, adamw_ref

from .check import at_two_widths, vectors_of

# Decay, two moments with what they leave, bias correction, ε and rate, all far from 1 and from 0.
RATES = np.float32([0.9, 0.8, 0.3, 0.7, 0.4, 1.5, 0.05, 0.2])


def numpy_adamw(value, gradient, mean, square):
    decay, beta1, rest1, beta2, rest2, root, eps, rate = RATES.astype(np.float64)
    mean = mean * beta1 + gradient * rest1
    square = square * beta2 + gradient**2 * rest2
    return value * decay - mean / (np.sqrt(square) * root + eps) * rate, mean, square


# Less than a vector, several blocks of 1024, more than four, which threads share.
@at_two_widths
@pytest.mark.parametrize("shape", [(1,), (3, 7), (41, 67), (17, 19, 23)], ids=str)
def test_adamw(shape, vector_bytes):
    rng = np.random.RandomState(len(shape))
    value, gradient, mean = (rng.standard_normal(shape).astype(np.float32) for _ in range(3))
    arrays = [value, gradient, mean, rng.uniform(0, 2, shape).astype(np.float32)]
    arrays[3].flat[0] = arrays[1].flat[0] = 0  # a parameter that nothing has moved yet
    exact = numpy_adamw(*(a.astype(np.float64) for a in arrays))
    with vectors_of(vector_bytes):
        for step in (adamw_fused, adamw_ref):
            found = step(*(jt.array(a) for a in arrays), RATES.tolist())
            for name, one, wanted in zip(("value", "mean", "square"), found, exact):
                assert np.abs(one.numpy() - wanted).max() <= 2e-6, (step.__name__, name)
