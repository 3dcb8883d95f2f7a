"""The network's numbers against recordings of the original PyTorch code (weights_convert/record_golden.py)."""

import jittor as jt
import numpy as np
import pytest
from jittor import nn

from jvan.variants import VANConfig, variant_config
from weights_convert.random_state import SMALL, faint, positions

from .recorded import error, network, picture, recording, section, to_input

BAR = 1e-4  # of the largest absolute value, float32


@pytest.mark.parametrize("arch", ["van_b0", "van_b1", "van_b2", "van_b3"])
def test_logits_and_stage_maps(arch):
    golden = recording(arch)
    model = network(variant_config(arch), section(golden, "statistics/")).eval()
    for size in ("224x224", "193x257"):
        maps = [m.permute(0, 3, 1, 2) for m in model.stages(picture(size))]
        logits = model.forward_head(maps[-1])
        for i, values in enumerate(maps, start=1):
            key = f"{size}/stage{i}"
            assert tuple(values.shape) == tuple(golden[f"{key}/shape"])
            sample = values.numpy().ravel()[positions(key, values.numel())]
            assert np.abs(sample - golden[f"{key}/values"]).max() <= BAR * golden[f"{key}/max"], key
        assert error(logits.numpy(), golden[f"{size}/logits"]) <= BAR


def test_calling_the_network_is_its_stages_and_head():
    golden = recording("van_b0")
    model = network(variant_config("van_b0"), section(golden, "statistics/")).eval()
    assert error(model(picture("224x224")).numpy(), golden["224x224/logits"]) <= BAR


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_every_gradient(mode):
    golden = recording("gradients")
    model = network(VANConfig(**SMALL), section(golden, "statistics/"))
    for module in model.modules():  # not eval(), which stops the gradients of all parameters
        module.is_train = mode == "train"
    x = to_input(golden["pictures"])
    logits = model(x)
    loss = nn.cross_entropy_loss(logits, jt.array(golden["labels"]))
    learned = {n: p for n, p in model.state_dict().items() if "running_" not in n}
    gradients = dict(zip([*learned, "input"], jt.grad(loss, [*learned.values(), x])))

    assert error(logits.numpy(), golden[f"{mode}/logits"]) <= BAR
    assert float(loss) == pytest.approx(float(golden[f"{mode}/loss"]), rel=1e-5)
    exact = section(golden, f"{mode}/exact/")
    assert set(exact) == set(gradients)
    largest = max(np.abs(value).max() for value in exact.values())
    for name, value in exact.items():
        if mode == "train" and name.startswith("patch_embed") and name.endswith("proj.bias"):
            # It feeds a BatchNorm, so that its true gradient is zero.
            assert np.abs(gradients[name].numpy()).max() <= 1e-5 * largest, name
        else:
            assert error(gradients[name].numpy(), value) <= 1e-3, name


def test_running_statistics_after_a_training_step_are_pytorchs():
    golden = recording("gradients")
    model = network(VANConfig(**SMALL), section(golden, "statistics/"))
    model(to_input(golden["pictures"])).sync()
    after = section(golden, "after/statistics/")
    assert len(after) == 2 * (4 + 2 * sum(SMALL["depths"]))
    state = model.state_dict()
    for name, value in after.items():
        assert error(state[name].numpy(), value) <= 1e-5, name


@pytest.mark.parametrize("case", ["in_chans_4", "norm_eps_1e-6", "norm_eps_1e-5"])
def test_constructor_arguments(case):
    golden = section(recording("arguments"), f"{case}/")
    small = {"in_chans": 4} if case == "in_chans_4" else {"norm_eps": float(case[len("norm_eps_") :])}
    adjust = dict if case == "in_chans_4" else faint
    model = network(VANConfig(**SMALL, **small), section(golden, "statistics/"), adjust).eval()
    maps = list(model.stages(to_input(golden["pictures"])))
    for i, values in enumerate(maps, start=1):
        assert error(values.permute(0, 3, 1, 2).numpy(), golden[f"stage{i}"]) <= BAR
    assert error(model.forward_head(maps[-1].permute(0, 3, 1, 2)).numpy(), golden["logits"]) <= BAR


def test_the_two_layer_norm_eps_are_told_apart():
    golden = recording("arguments")
    assert error(golden["norm_eps_1e-6/logits"], golden["norm_eps_1e-5/logits"]) > 100 * BAR
