"""Blocks that train layer by layer (another gate, parts left out): output and every gradient against numpy in float64."""

import warnings

import jittor as jt
import numpy as np
import pytest

from jvan.models.factory import build
from jvan.models.loading import assign
from jvan.variants import VANConfig
from tests import float64
from weights_convert.random_state import random_state

SMALL = {"embed_dims": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "mlp_ratios": (2, 2, 2, 2), "num_classes": 5}
VARIANTS = [{"gate": "add"}, {"gate": "sigmoid", "lka_parts": ("dw_d", "pw")}]


def trained(config):
    """A network in training mode whose tensors are none of them zero or one, and its learned tensors by name."""
    model = build(config)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assign(model, random_state(shapes), allow_missing=("",))
    model.train()
    return model, {name: value for name, value in model.named_parameters() if ".running_" not in name}


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_output_and_every_gradient(changes, monkeypatch):
    # in training a norm takes the batch's statistics
    norm = lambda x, t, name: float64.batch_norm(x, *float64._layer(t, name))  # noqa: E731
    monkeypatch.setattr(float64, "_running_norm", norm)
    config = VANConfig(**SMALL, **changes)
    model, learned = trained(config)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 40, 56)).astype(np.float32)
    weights = rng.standard_normal((2, 5))
    tensors = {name: value.numpy().astype(np.float64) for name, value in learned.items()}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it takes longer
        logits = model(jt.array(x))
        variables = [*learned.values()]
        found = jt.grad((logits * jt.array(weights.astype(np.float32))).sum(), variables)
    exact = float64.network(x, tensors, config)[0]
    assert np.abs(logits.numpy() - exact).max() <= 1e-5 * np.abs(exact).max()

    for name, gradient in zip(learned, found):
        gradient = gradient.numpy().astype(np.float64)
        direction = rng.standard_normal(gradient.shape)
        slope = slope_along(name, direction, x, tensors, config, weights)
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert abs((gradient * direction).sum() - slope) <= 1e-4 * max(scale, 1e-2), name


def slope_along(name, direction, x, tensors, config, weights, step=1e-5):
    """Of Σ logits·weights, along a direction of one tensor: central differences in float64."""

    def value(by):
        return (float64.network(x, {**tensors, name: tensors[name] + by * direction}, config)[0] * weights).sum()

    return (value(step) - value(-step)) / (2 * step)
