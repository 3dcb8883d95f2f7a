"""What optimize_for_inference returned does not train, save or load, and says so; a head over it does."""

import jittor as jt
import numpy as np
import pytest

from jvan.inference.fused.cpu import InferenceVAN
from jvan.variants import VANConfig
from tests.inference.fusing import fused, pictures, plain_network
from weights_convert.random_state import SMALL


@pytest.fixture(scope="module")
def model():
    return plain_network(VANConfig(**SMALL))


@pytest.fixture
def fast(model):
    return fused(model)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda net: net.train(), "train the network that it was made from"),
        (lambda net: net.parameters(), "take those of the network"),
        (lambda net: jt.optim.SGD(net.parameters(), 0.1), "take those of the network"),
        (lambda net: net.named_parameters(), "save the network"),
        (lambda net: net.state_dict(), "save the network"),
        (lambda net: net.save("net.pkl"), "save the network"),
        (lambda net: net.load_state_dict({"head.bias": np.zeros(10)}), "load into the network.*optimize_for_inference again"),
        (lambda net: net.load_parameters({}), "load into the network"),
        (lambda net: net.load("missing.pkl"), "load into the network"),
        (lambda net: net.half(), "take those of the network"),
    ],
)  # fmt: skip
def test_what_it_cannot_do_raises_at_once(fast, call, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match=says):
        call(fast)
    assert not list(tmp_path.iterdir())


class Scorer(jt.nn.Module):
    def __init__(self, backbone):
        self.backbone, self.head = backbone, Weights()

    def execute(self, x):
        return self.head(self.backbone.forward_features(x).mean([2, 3]))


class Weights(jt.nn.Module):
    def __init__(self):
        self.weight = jt.zeros((32,))

    def execute(self, x):
        return (x * self.weight).sum(1)


def test_a_head_trains_over_it(fast):
    net, x, truth = Scorer(fast), pictures(4, 3, 32, 32), jt.array([0.0, 1.0, 0.0, 1.0])
    optimizer = jt.optim.SGD(net.parameters(), 0.001)
    before, losses = fast(x).numpy(), []
    for _ in range(5):
        net.train()
        assert net.head.is_train and not fast.is_training()
        loss = ((net(x) - truth) ** 2).sum()
        optimizer.step(loss)
        losses.append(loss.item())
    net.eval()
    assert losses[-1] < 0.9 * losses[0]
    np.testing.assert_array_equal(fast(x).numpy(), before)


def test_a_parent_saves_its_own_part(fast, tmp_path):
    net = Scorer(fast)
    assert set(net.state_dict()) == {"head.weight"} and len(net.parameters()) == 1
    net.save(str(tmp_path / "net.pkl"))
    net.load(str(tmp_path / "net.pkl"))
    assert any(name == "backbone" for name, _ in net.named_modules()) and "InferenceVAN" in str(net)


@pytest.mark.parametrize(
    "asked",
    [
        lambda net, x: jt.grad(net(x).sum(), [x]),
        lambda net, x: jt.grad(net.forward_features(x).sum(), [x]),
        lambda net, x: jt.grad(net(x).sum(), [net.head.weight]),
    ],
)
def test_a_gradient_through_it_raises(fast, asked):
    with pytest.raises(RuntimeError, match="gradient is asked through a network for inference alone"):
        asked(fast, pictures(1, 3, 32, 32))


def test_so_do_maps_of_a_backbone():
    net, x = fused(plain_network(VANConfig(**{**SMALL, "num_classes": 0}), out_indices=(1, 3))), pictures(1, 3, 32, 32)
    assert type(net) is InferenceVAN
    with pytest.raises(RuntimeError, match="gradient is asked through"):
        jt.grad(net(x)[0].sum(), [x])
    weight = jt.ones((1, 16, 1, 1))
    (gradient,) = jt.grad((net(x)[0] * weight).sum(), [weight])
    np.testing.assert_allclose(gradient.numpy()[0, :, 0, 0], net(x)[0].numpy().sum((0, 2, 3)), rtol=1e-4)
