"""A network that runs layer by layer, as ablated ones and those of --sync-bn do, against numpy in float64: logits and gradients."""

import jittor as jt
import numpy as np
import pytest

from jvan import create_model
from jvan.models.blocks import CFF, Attention
from jvan.models.layers import BatchNorm
from jvan.models.loading import assign
from tests import float64
from tests.inference.random_network import random_tensors

SIZES = {"embed_dims": (4, 6, 8, 10), "depths": (1, 1, 1, 1), "mlp_ratios": (3, 2, 2, 2), "num_classes": 7}
TOLERANCE = 2e-5
pytestmark = pytest.mark.filterwarnings("ignore:training takes longer")


@pytest.fixture
def taken(monkeypatch):
    """No half of a block is one operator; -> the halves that ran, layer by layer."""
    ran = []
    for half in (Attention, CFF):
        monkeypatch.setattr(half, "why_not_one_operator", "a test looks at its layers")
        monkeypatch.setattr(half, "execute", _noted(half.execute, ran))
    return ran


def _noted(execute, ran):
    def noted(self, x):
        ran.append(type(self))
        return execute(self, x)

    return noted


def random_model(**changes):
    model = create_model("van_b0", **SIZES, **changes)
    assign(model, random_tensors({name: tuple(value.shape) for name, value in model.state_dict().items()}))
    return model


def check(model, training):
    """Logits, and of Σ logits·weights the slope along a random direction of every parameter."""
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.is_train = training  # not by eval(), which in Jittor takes the parameters' gradients away
    rng = np.random.RandomState(0)
    x = rng.standard_normal((2, 3, 40, 33)).astype(np.float32)
    names = [name for name in model.state_dict() if "running_" not in name]
    tensors = {name: value.numpy().astype(np.float64) for name, value in model.state_dict().items()}
    logits = model(jt.array(x))
    weights = rng.standard_normal(logits.shape)
    gradients = jt.grad((logits * weights.astype(np.float32)).sum(), [model.state_dict()[name] for name in names])

    def exact(changed):
        return float64.network(x, {**tensors, **changed}, model.metadata.config, training)[0]

    want = exact({})
    assert np.abs(logits.numpy() - want).max() <= TOLERANCE * np.abs(want).max()
    for name, gradient in zip(names, gradients):
        found, direction = gradient.numpy(), rng.standard_normal(gradient.shape)
        ahead, behind = (exact({name: tensors[name] + step * direction}) for step in (1e-5, -1e-5))
        slope = ((ahead - behind) * weights).sum() / 2e-5
        scale = np.linalg.norm(found) * np.linalg.norm(direction)
        assert abs((found * direction).sum() - slope) <= TOLERANCE * max(scale, 1), name


@pytest.mark.parametrize("training", [False, True], ids=["running statistics", "the batch's"])
def test_every_gradient_of_an_ablated_network(training, monkeypatch):
    """The attention runs layer by layer of its own accord, the feed-forward is one operator."""
    ran = []
    monkeypatch.setattr(Attention, "execute", _noted(Attention.execute, ran))
    check(random_model(gate="add"), training)
    assert ran == [Attention] * sum(SIZES["depths"])


@pytest.mark.parametrize(
    "changes",
    [{}, {"gate": "sigmoid", "lka_parts": ("dw_d", "pw")}, {"gate": "none", "kernel_size": 14, "dilation": 2}],
    ids=["the paper's", "sigmoid", "none"],
)
def test_every_gradient_of_all_layers(taken, changes):
    check(random_model(**changes), training=True)
    assert taken == [Attention, CFF] * sum(SIZES["depths"])
