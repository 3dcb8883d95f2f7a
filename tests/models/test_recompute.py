"""Gradient checkpointing: the same numbers as without, to the bit, and less memory."""

from __future__ import annotations

import subprocess
import sys

import jittor as jt
import numpy as np
import pytest
from jittor import nn

from jvan.models import build
from jvan.models.blocks import Block
from jvan.models.layers import BatchNorm
from jvan.models.recompute import checkpoint
from jvan.variants import VANConfig
from weights_convert.random_state import SMALL


def run(checkpointing, drop_rate=0.0, frozen=0, plain=False, **changes):
    """Logits, every gradient and the state after one training pass."""
    jt.set_global_seed(3)
    model = build(VANConfig(**{**SMALL, **changes}), drop_rate=drop_rate, drop_path_rate=0.4)
    model.freeze(frozen)
    model.set_grad_checkpointing(checkpointing)
    jt.set_global_seed(4)
    rng = np.random.RandomState(0)
    x = jt.array(rng.standard_normal((4, 3, 64, 48)).astype(np.float32))
    learned = {n: p for n, p in model.state_dict().items() if p.requires_grad}
    logits = model(x)
    loss = nn.cross_entropy_loss(logits, jt.array(np.arange(4)))
    gradients = jt.grad(loss, [x, *learned.values()])
    values = {"logits": logits, "x": gradients[0], **dict(zip(learned, gradients[1:]))}
    values = {name: v.numpy() for name, v in values.items()}
    return values, {name: v.numpy() for name, v in model.state_dict().items()}


def assert_same(values, expected, bits=False):
    """Plain Jittor's operators are fused otherwise where they run again, and round otherwise."""
    for name, value in expected.items():
        if bits:
            assert np.array_equal(values[name], value), name
        elif not name.endswith("proj.bias"):  # before a BatchNorm: its gradient is zero but for rounding
            assert np.abs(values[name] - value).max() <= 1e-5 * np.abs(value).max(), name


CASES = {
    "one operator": {},
    "dropout": {"drop_rate": 0.3},
    "another attention": {"gate": "sigmoid", "lka_parts": ("dw", "pw")},
}


@pytest.mark.filterwarnings("ignore:training takes longer")
@pytest.mark.parametrize("case", CASES)
def test_the_same_numbers(case):
    expected, expected_state = run(False, **CASES[case])
    values, state = run(True, **CASES[case])
    assert_same(values, expected, bits=case == "one operator")
    assert all(np.array_equal(state[name], v) for name, v in expected_state.items())
    assert np.abs(values["block1.0.attn.proj_1.weight"]).max() > 0


def test_the_same_numbers_by_plain_jittor(monkeypatch):
    """Of one block: a network's operators would be compiled for a minute."""
    monkeypatch.setenv("JVAN_KERNELS", "0")
    expected, expected_state = run_block(lambda block, x: block(x))
    values, state = run_block(checkpoint)
    assert_same(values, expected)
    for name, value in expected_state.items():
        np.testing.assert_allclose(state[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        assert not name.endswith("running_mean") or (value != 0).any()


def run_block(call):
    """Output, every gradient and the state of a block after `call` of it and a map."""
    jt.set_global_seed(3)
    block = Block(8, 4, drop_path=0.4)
    jt.set_global_seed(4)
    x = jt.array(np.random.RandomState(0).standard_normal((4, 6, 5, 8)).astype(np.float32))
    learned = {n: p for n, p in block.state_dict().items() if p.requires_grad}
    out = call(block, x)
    gradients = jt.grad((out * out).sum(), [x, *learned.values()])
    values = {"out": out, "x": gradients[0], **dict(zip(learned, gradients[1:]))}
    return {n: v.numpy() for n, v in values.items()}, {n: v.numpy() for n, v in block.state_dict().items()}


def test_frozen_stages():
    expected, _ = run(False, frozen=2)
    values, state = run(True, frozen=2)
    assert all(np.array_equal(values[name], v) for name, v in expected.items() if name != "x")
    assert (state["block1.0.norm1.running_mean"] == 0).all()
    assert (state["block3.0.norm1.running_mean"] != 0).any()


def test_running_statistics_move_once(monkeypatch):
    moves = []
    update = BatchNorm.update_running
    monkeypatch.setattr(BatchNorm, "update_running", lambda self, *a, **k: (moves.append(1), update(self, *a, **k)))
    before = run(False)[1]
    once = len(moves)
    after = run(True)[1]
    assert len(moves) > 1.5 * once  # the blocks did run again
    assert all(np.array_equal(before[n], after[n]) for n in before if "running_" in n)


def test_it_can_be_switched_off_and_needs_no_gradients():
    model = build(VANConfig(**SMALL))
    model.set_grad_checkpointing()
    assert model.grad_checkpointing
    with jt.no_grad():
        checkpointed = model(jt.ones((2, 3, 64, 64))).numpy()
    model.set_grad_checkpointing(False)
    assert not model.grad_checkpointing
    np.testing.assert_allclose(model(jt.ones((2, 3, 64, 64))).numpy(), checkpointed, rtol=1e-5, atol=1e-6)


def test_a_second_backward_pass_says_what_to_do():
    model = build(VANConfig(**SMALL))
    model.set_grad_checkpointing()
    loss = model(jt.ones((2, 3, 64, 64))).sum()
    jt.grad(loss, model.head.weight)
    first = jt.grad(loss, model.block1[0].norm1.weight)
    with pytest.raises(RuntimeError, match=r"second backward.*set_grad_checkpointing\(False\)"):
        jt.grad(loss, model.block1[0].norm1.weight)
    assert np.isfinite(first.numpy()).all()


@pytest.mark.parametrize("before, after", [("train", "eval"), ("eval", "train")])
def test_a_change_of_mode_before_the_backward_pass_says_what_to_do(before, after):
    model = build(VANConfig(**SMALL))
    model.set_grad_checkpointing()
    getattr(model, before)()
    x = jt.ones((2, 3, 64, 64))
    loss = model(x).sum()
    getattr(model, after)()
    with pytest.raises(RuntimeError, match=r"train\(\), eval\(\) or freeze\(\) was called"):
        jt.grad(loss, x)


def test_what_is_not_finite_in_one_picture_stays_there():
    block = build(VANConfig(**SMALL)).block1[0]
    block.eval()
    x = jt.array(np.random.RandomState(0).standard_normal((2, 8, 8, SMALL["embed_dims"][0])).astype(np.float32))
    dout = np.ones(x.shape, np.float32)
    dout[0, 0, 0, 0] = np.inf
    dx = jt.grad((checkpoint(block, x) * jt.array(dout)).sum(), x).numpy()
    assert np.isfinite(dx[1]).all() and np.abs(dx[1]).max() > 0


MEMORY = """
import sys
import jvan, jittor as jt
from jittor import nn

def resident(kind):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(kind)) / 1024

model = jvan.create_model("van_b0", num_classes=10)
model.set_grad_checkpointing(sys.argv[1] == "yes")
optimizer = jt.optim.SGD(model.parameters(), 0.1)

def step(size, batch):
    x, labels = jt.ones((batch, 3, size, size)), jt.zeros((batch,), dtype="int32")
    optimizer.step(nn.cross_entropy_loss(model(x), labels))
    jt.sync_all(True)

step(64, 2)  # compiles, and has the optimizer's memory
before = resident("VmRSS")
step(224, 24)
print("MB", resident("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory():
    def megabytes(checkpointing):
        command = [sys.executable, "-c", MEMORY, checkpointing]
        output = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
        return float(output.rsplit("MB", 1)[1])

    assert megabytes("yes") < 0.5 * megabytes("no")
