"""What optimize_for_inference takes, keeps and refuses, and what it says where it leaves a network as it is."""

import jittor as jt
import numpy as np
import pytest

from jvan.inference.fused import cpu
from jvan.inference.fused.cpu import InferenceVAN
from jvan.inference.optimize import optimize_for_inference
from jvan.ops import _jit
from jvan.variants import VANConfig
from tests.inference.fusing import BAR, fused, pictures, plain_network
from tests.models.recorded import error
from weights_convert.random_state import SMALL


def test_it_is_a_copy_and_does_not_train():
    model = plain_network(VANConfig(**SMALL))
    fast, x = optimize_for_inference(model), pictures(1, 3, 64, 64)
    assert type(fast) is InferenceVAN
    before = fast(x).numpy()
    for parameter in model.parameters():
        parameter.assign(parameter * 2)
    np.testing.assert_array_equal(fast(x).numpy(), before)
    with pytest.raises(RuntimeError, match="inference alone"):
        fast.train()


def test_a_training_model_is_taken_as_in_eval_mode():
    model = plain_network(VANConfig(**SMALL), drop_rate=0.5, drop_path_rate=0.5)
    model.train()
    fast, x = fused(model), pictures(2, 3, 64, 64)
    assert model.is_training()
    found = fast(x).numpy()
    model.eval()
    assert error(found, model(x).numpy()) <= BAR


@pytest.mark.parametrize(("x", "says"), [((1, 4, 64, 64), "takes"), ((3, 64, 64), "takes"), ((0, 3, 64, 64), "takes")])
def test_wrong_inputs(x, says):
    with pytest.raises(ValueError, match=says):
        fused(plain_network(VANConfig(**SMALL)))(jt.zeros(x))


def test_what_it_cannot_take():
    with pytest.raises(TypeError, match="takes a VAN"):
        optimize_for_inference(jt.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="float8"):
        optimize_for_inference(plain_network(VANConfig(**SMALL)), dtype="float8")


class Mean(jt.nn.Module):
    def __init__(self, dim):
        pass

    def execute(self, x):
        return x * x.mean()


def test_a_foreign_attention_stays_plain_and_says_so():
    from jvan.models import VAN

    model = VAN(SMALL["embed_dims"], SMALL["depths"], num_classes=3, lka=Mean)
    model.train()
    with pytest.warns(UserWarning, match="Mean"):
        plain = optimize_for_inference(model)
    assert model.is_training() and not plain.is_training()
    x = pictures(1, 3, 64, 64)
    model.eval()
    np.testing.assert_array_equal(plain(x).numpy(), model(x).numpy())


def test_without_kernels_it_stays_plain_and_says_so(monkeypatch):
    monkeypatch.setenv(_jit.SWITCH, "0")
    model = plain_network(VANConfig(**SMALL))
    with pytest.warns(UserWarning, match=_jit.SWITCH):
        assert type(optimize_for_inference(model)) is type(model)


def test_few_plans_are_kept():
    fast = fused(plain_network(VANConfig(**SMALL)))
    for side in range(32, 32 + cpu.PLANS + 5):
        fast(pictures(1, 3, side, 32)).sync()
    assert len(fast._plans) == cpu.PLANS
