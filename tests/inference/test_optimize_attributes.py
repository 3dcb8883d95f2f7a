"""Every attribute of every module of a network moved off its default, one at a time: the fused network follows it, or is refused."""

import warnings

import jittor as jt
import numpy as np
import pytest

from jvan.inference.fused.cpu import InferenceVAN
from jvan.inference.optimize import optimize_for_inference
from jvan.models.layers import Conv, Linear
from jvan.variants import VANConfig
from tests.inference.fusing import BAR, pictures, plain_network
from tests.models.recorded import error
from weights_convert.random_state import stream

NARROW = {"embed_dims": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "mlp_ratios": (2, 2, 2, 2), "num_classes": 5}
WORDS = {"multiply": "add"}  # of an attribute that is text
TOLD = {"feature_info", "metadata", "layers"}  # what is no number: facts for the user, and the modules of a list


@pytest.fixture(scope="module")
def network():
    return plain_network(VANConfig(**NARROW))


def moved(value):
    """Another value of the same kind, and for a convolution's weight one of a larger kernel too."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, (int, float)):
        return [value + 1] if isinstance(value, int) else [value + 0.01]
    if isinstance(value, str):
        return [WORDS[value]]
    array = value.numpy()
    values = [array * stream("moved").uniform(1.1, 1.5, array.shape)]
    if array.ndim == 4:
        values.append(
            np.pad(array, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="reflect" if min(array.shape[2:]) > 1 else "edge")
        )
    return [jt.array(np.float32(each)) for each in values]


def attributes(model):
    """(module's name, module, attribute) of everything that a module holds and that is no module."""
    for name, module in model.named_modules():
        for attribute, value in list(vars(module).items()):
            if attribute not in TOLD and attribute != "backup_grad_state" and not isinstance(value, jt.nn.Module):
                yield name, module, attribute


def fused_or_refused(model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fast = optimize_for_inference(model)
    told = [str(warning.message) for warning in caught]
    assert bool(told) == (type(fast) is not InferenceVAN), told
    return fast, told


def differing(model, x, what):
    """`what`, if the fused network gives something else; that it is refused needs no run."""
    fast, told = fused_or_refused(model)
    if told:
        assert "stays as it is" in told[0]
        return []
    wrong = error(fast(x).numpy(), model(x).numpy())
    return [] if wrong <= BAR else [f"{what}: {wrong:.1e}"]


def test_every_attribute_of_every_module(network):
    x, wrong, tried = pictures(1, 3, 32, 32), [], set()
    for name, module, attribute in attributes(network):
        kept = getattr(module, attribute)
        for value in moved(kept):
            setattr(module, attribute, value)
            network.eval()  # or a block computes in training mode
            if attribute not in ("is_train", "in_chans"):  # set by eval(); what the input must have
                wrong += differing(network, x, f"{name}.{attribute}")
            setattr(module, attribute, kept)
        tried.add((type(module).__name__, attribute))
    assert not wrong
    assert {("BatchNorm", "eps"), ("Depthwise", "dilation"), ("Conv", "stride"), ("LKA", "gate")} < tried
    assert not fused_or_refused(network)[1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda net: setattr(net.block1[0].mlp.dwconv.dwconv, "dilation", 2),
            "dilation of its feed-forward's dwconv is 2",
        ),
        (
            lambda net: setattr(net.block2[0].attn.spatial_gating_unit.conv0, "dilation", 2),
            "dilation of its attention's conv0",
        ),
        (lambda net: setattr(net.patch_embed2.proj, "padding", 2), "padded by 2, not by 1"),
        (lambda net: setattr(net.norm3, "eps", 1e-3), "different eps"),
        (lambda net: setattr(net, "in_chans", 4), "patch_embed1.proj.weight is"),
        (lambda net: setattr(net.block1[0].attn, "proj_1", Conv(8, 8, 1)), "is Conv, not Pointwise"),
        (lambda net: setattr(net.block1[0], "norm1", jt.nn.BatchNorm(8)), "is a BatchNorm, a module of another kind"),
        (lambda net: setattr(net, "norm4", jt.nn.Identity()), "norm4 is Identity, not LayerNorm"),
        (lambda net: setattr(net.block4[0].mlp.fc2, "bias", None), "no tensor block4.0.mlp.fc2.bias"),
        (lambda net: setattr(net.norm2, "execute", lambda x: x), "norm2 was given its own execute"),
        (lambda net: setattr(net.norm2, "__fhook__", print), "norm2 was given its own __fhook__"),
    ],
)
def test_what_it_cannot_follow_is_refused_and_named(change, says):
    net = plain_network(VANConfig(**NARROW))
    change(net)
    _, told = fused_or_refused(net)
    assert len(told) == 1 and says in told[0]


def test_a_head_of_another_size_and_a_block_that_stands_twice():
    net, x = plain_network(VANConfig(**{**NARROW, "depths": (2, 1, 1, 1)})), pictures(1, 3, 32, 32)
    net.head = Linear(8, 3)
    net.block1 = jt.nn.ModuleList([net.block1[0], net.block1[0]])
    net.eval()
    assert differing(net, x, "shared") == [] and fused_or_refused(net)[0](x).shape == [1, 3]
