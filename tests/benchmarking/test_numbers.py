"""Operations, ratios, differences and the work that the engines are given."""

import numpy as np
import pytest

from jvan.benchmarking.compare import largest_difference, ratios, typical
from jvan.benchmarking.flops import flop, multiply_adds
from jvan.benchmarking.machine import describe_machine, random_pictures, random_weights
from jvan.checkpoints.names.architecture import check_shapes
from jvan.variants import VANConfig, variant_config

from .fakes import TINY


# Counted on the official PyTorch code by hooks on its convolutions and its linear layer.
@pytest.mark.parametrize(
    "arch, giga",
    [
        ("van_b0", 0.864),
        ("van_b1", 2.495),
        ("van_b2", 4.993),
        ("van_b3", 8.925),
        ("van_b4", 12.144),
        ("van_b5", 17.129),
        ("van_b6", 38.710),
    ],
)
def test_multiply_adds(arch, giga):
    assert multiply_adds(variant_config(arch), 224, 224) / 1e9 == pytest.approx(giga, abs=0.0006)


def test_multiply_adds_by_hand():
    config = VANConfig((2, 3, 4, 5), (1, 1, 1, 1), (1, 1, 1, 2), num_classes=6, in_chans=1, lka_parts=("dw", "pw"))
    # 33×40 pixels: maps of 9×10, 5×5, 3×3, 2×2
    stem = 90 * 49 * 2 + 25 * 9 * 2 * 3 + 9 * 9 * 3 * 4 + 4 * 9 * 4 * 5
    attention = sum(pixels * (3 * c * c + 25 * c) for pixels, c in ((90, 2), (25, 3), (9, 4), (4, 5)))
    mlp = sum(pixels * (2 * c * h + 9 * h) for pixels, c, h in ((90, 2, 2), (25, 3, 3), (9, 4, 4), (4, 5, 10)))
    assert multiply_adds(config, 33, 40) == stem + attention + mlp + 5 * 6
    assert flop(config, 33, 40) == 2 * multiply_adds(config, 33, 40)
    assert flop(config, 33, 40, "train") == 6 * multiply_adds(config, 33, 40)


def test_medians_and_ratios():
    ours, theirs = [[1, 3, 2], [4, 8]], [[4, 4], [12, 3, 3], [1]]
    assert typical(theirs) == 3
    assert ratios(ours, theirs) == [0.5, 2.0]


def outputs(logits=(1.0, -4.0), **gradients):
    return {k: np.float32(v) for k, v in {"logits": logits, **gradients}.items()}


@pytest.mark.parametrize(
    "theirs, difference",
    [
        (outputs(), 0),
        (outputs((1.0, -4.5)), 0.125),
        (outputs((1.0, -4.0, 0.0)), np.inf),
        (outputs((np.nan, -4.0)), np.inf),
        (outputs(a=1.0), np.inf),
        ({}, np.inf),
    ],
)
def test_difference(theirs, difference):
    assert largest_difference(outputs(), theirs) == difference


def test_difference_of_a_gradient_has_its_own_scale():
    ours = outputs(large=(100.0, 0.0), small=(2.0, 0.0), zero=(1e-9, 0.0))
    assert largest_difference(ours, {**ours, "small": np.float32((2.0, 1.0))}) == pytest.approx(0.5)
    # 1e-2 of the largest gradient is the least scale: this one is zero up to rounding
    assert largest_difference(ours, {**ours, "zero": np.float32((-1e-9, 0.0))}) == pytest.approx(2e-9)


def test_random_work_fits_the_network():
    weights = random_weights(TINY)
    check_shapes({name: array.shape for name, array in weights.items()}, TINY)
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in weights.values())
    assert all(np.unique(array).size > 1 for array in weights.values())
    assert all((array > 0).all() for name, array in weights.items() if name.endswith("running_var"))
    work = random_pictures(TINY, 5, 32, 48)
    assert work["input"].shape == (5, 3, 32, 48) and work["input"].dtype == np.float32
    assert work["labels"].shape == (5,) and 0 <= work["labels"].min() <= work["labels"].max() < 7


def test_machine():
    machine = describe_machine()
    assert machine["cpu"] and machine["cores"] >= 1
