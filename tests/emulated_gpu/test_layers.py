"""jvan.ops as a GPU computes it, the kernels run on the host: which kernels are chosen, and how they are put together."""

import warnings

import jittor as jt
import numpy as np
import pytest

from jvan.ops import _jit
from jvan.ops.adamw import adamw, adamw_ref
from jvan.ops.attention import attention, attention_ref
from jvan.ops.conv import conv, conv_ref
from jvan.ops.cuda import launch as cuda
from jvan.ops.depthwise import depthwise, depthwise_ref
from jvan.ops.feed_forward import feed_forward, feed_forward_ref
from jvan.ops.norm import batch_norm, batch_norm_ref, layer_norm, layer_norm_ref
from jvan.ops.pointwise import pointwise, pointwise_ref
from tests import float64
from tests.ops import test_block_operators as blocks
from tests.ops.check import check_op
from tools.cuda_emulator.backend import Emulated


@pytest.fixture
def device(emulator, monkeypatch):
    """The emulator as the GPU; no C++ kernel may run."""
    monkeypatch.setattr(_jit, "can_run", None)
    monkeypatch.setattr(_jit, "run_kernel", None)
    with cuda.use_backend(Emulated(emulator)):
        yield emulator


def random_arrays(*shapes):
    """Not those that check_op weights outputs by: a norm's input as its output's gradient has nothing left but rounding."""
    rng = np.random.RandomState(1)
    return [rng.standard_normal(s).astype(np.float32) for s in shapes]


# op, the same by plain Jittor, the same in numpy, shapes
LAYERS = {
    "depthwise": (
        lambda x, w, b: depthwise(x, w, b, 3),
        lambda x, w, b: depthwise_ref(x, w, b, 3),
        lambda x, w, b: float64.depthwise(x, w, b, 3),
        [(2, 7, 5, 6), (6, 1, 7, 7), (6,)],
    ),
    "depthwise of any size": (
        depthwise,
        depthwise_ref,
        lambda x, w, b: float64.depthwise(x, w, b, 1),
        [(1, 7, 23, 6), (6, 1, 21, 21), (6,)],
    ),
    "pointwise": (
        pointwise,
        pointwise_ref,
        float64.pointwise,
        [(2, 3, 5, 7), (4, 7, 1, 1), (4,)],
    ),
    "linear": (pointwise, pointwise_ref, float64.pointwise, [(3, 8), (5, 8), (5,)]),
    "conv": (
        lambda x, w, b: conv(x, w, b, 4, 3),
        lambda x, w, b: conv_ref(x, w, b, 4, 3),
        lambda x, w, b: float64.conv(x, w, b, 4, 3),
        [(2, 9, 11, 3), (5, 3, 7, 7), (5,)],
    ),
    "batch_norm": (
        lambda x, w, b: batch_norm(x, w, b, 1e-5)[0],
        lambda x, w, b: batch_norm_ref(x, w, b, 1e-5)[0],
        float64.batch_norm,
        [(2, 5, 7, 6), (6,), (6,)],
    ),
    "layer_norm": (
        lambda x, w, b: layer_norm(x, w, b, 1e-5),
        lambda x, w, b: layer_norm_ref(x, w, b, 1e-5),
        float64.layer_norm,
        [(2, 5, 7, 6), (6,), (6,)],
    ),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_layer(device, layer):
    op, ref, oracle, shapes = LAYERS[layer]
    check_op(op, ref, oracle, random_arrays(*shapes), tolerance=3e-5 if layer.endswith("norm") else 1e-5)


@pytest.mark.parametrize("constant", [False, True], ids=["batch", "constant"])
def test_attention(device, constant):
    shape = (2, 7, 5, 6)
    fixed, keep = blocks.statistics(shape[-1], constant), blocks.drop_path(shape[0])
    check_op(
        blocks.attention_of(attention, 3, fixed, keep),
        blocks.attention_of(attention_ref, 3, fixed, keep),
        blocks.numpy_attention(3, fixed, keep),
        blocks.random_arrays(blocks.attention_shapes(shape, 5, 7)),
        tolerance=3e-5,
    )


@pytest.mark.parametrize("constant", [False, True], ids=["batch", "constant"])
def test_feed_forward(device, constant):
    shape = (2, 7, 5, 6)
    fixed, keep = blocks.statistics(shape[-1], constant), blocks.drop_path(shape[0])
    check_op(
        blocks.feed_forward_of(feed_forward, fixed, keep),
        blocks.feed_forward_of(feed_forward_ref, fixed, keep),
        blocks.numpy_feed_forward(fixed, keep),
        blocks.random_arrays(blocks.feed_forward_shapes(shape, 18)),
        tolerance=3e-5,
    )


@pytest.mark.parametrize("dtype, parameter", [("float16", "float16"), ("bfloat16", "float32")])
def test_feed_forward_of_sixteen_bits(device, dtype, parameter):
    """Maps of one type, parameters of the same or of float32: every gradient has its own input's type."""
    shape = (2, 7, 5, 6)
    arrays, keep = blocks.random_arrays(blocks.feed_forward_shapes(shape, 18)), blocks.drop_path(2)
    variables = [jt.array(a).cast(parameter if i else dtype) for i, a in enumerate(arrays)]
    y = blocks.feed_forward_of(feed_forward, (), keep)(*variables)
    exact = blocks.numpy_feed_forward((), keep)(*(v.float32().numpy().astype(np.float64) for v in variables))
    np.testing.assert_allclose(y.float32().numpy(), exact, atol=2e-2 * np.abs(exact).max())
    gradients = jt.grad(y.float32().sum(), variables)
    assert [g.dtype for g in gradients] == [v.dtype for v in variables]


def test_adamw_is_one_operator(device, monkeypatch):
    names, run = [], device.run
    arrays = [*random_arrays((5, 3, 1, 1), (5, 3, 1, 1), (5, 3, 1, 1)), np.ones((5, 3, 1, 1), np.float32)]
    rates = [0.9, 0.8, 0.3, 0.7, 0.4, 1.5, 0.05, 0.2]
    adamw(*map(jt.array, arrays), rates)  # the kernel's check
    monkeypatch.setattr(device, "run", lambda name, *call: names.append(name) or run(name, *call))
    found = adamw(*map(jt.array, arrays), rates)
    for ours, plain in zip(found, adamw_ref(*map(jt.array, arrays), rates)):
        np.testing.assert_allclose(ours.numpy(), plain.numpy(), rtol=1e-5, atol=1e-6)
    assert names == ["adamw"] and all(v.is_stop_grad() for v in found)


def test_without_gradients_the_map_before_gelu_is_not_kept(device, monkeypatch):
    shapes = []
    run = device.run
    monkeypatch.setattr(device, "run", lambda name, *a: shapes.append((name, a[2])) or run(name, *a))
    inputs = [jt.array(a) for a in blocks.random_arrays(blocks.feed_forward_shapes((1, 3, 3, 4), 8))]
    with jt.no_grad():
        blocks.feed_forward_of(feed_forward, (), np.ones(1))(*inputs).sync()
    assert dict(shapes)["depthwise_gelu"] == [(1, 3, 3, 8), (1, 1, 1, 1)]


def test_kernels_that_compute_nonsense_are_not_used(device, monkeypatch):
    """One line says so, once; the numbers come from plain Jittor."""
    run = device.run

    def wrong(name, *call):
        outputs = run(name, *call)
        return [outputs[0] * 1.001, *outputs[1:]] if name == "depthwise" else outputs

    monkeypatch.setattr(device, "run", wrong)
    monkeypatch.setattr("jvan.ops.depthwise.can_run", lambda *v: False)
    x, w, b = random_arrays((2, 7, 5, 6), (6, 1, 3, 3), (6,))
    with pytest.warns(UserWarning, match=r"depthwise \(float32, float32\) are off: output errs .* plain Jittor"):
        y = depthwise(jt.array(x), jt.array(w), jt.array(b))
    np.testing.assert_allclose(y.numpy(), float64.depthwise(x, w, b, 1), atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        depthwise(jt.array(x), jt.array(w), jt.array(b))


def test_kernels_that_do_not_run_are_not_used(device, monkeypatch):
    def fails(*call):
        raise RuntimeError("jvan's CUDA kernel depthwise: no kernel image is available for execution on the device")

    monkeypatch.setattr(device, "run", fails)
    with pytest.warns(UserWarning, match="are off: .*no kernel image"):
        assert not cuda.can_run(("depthwise",), jt.ones((1, 1, 1, 1)))


def test_what_the_kernels_do_not_take(device, monkeypatch):
    x, weight, half = jt.ones((1, 2, 2, 4)), jt.ones((4,)), jt.ones((4,)).float16()
    assert cuda.can_run(("layer_norm",), x, weight)
    assert cuda.can_run(("layer_norm",), x.bfloat16(), weight)
    assert not cuda.can_run(("layer_norm",), x, half)
    assert not cuda.can_run(("layer_norm",), x.float16(), half, weight)
    assert not cuda.can_run(("layer_norm",), x.float64(), weight.float64())
    monkeypatch.setenv(_jit.SWITCH, "0")
    assert not cuda.can_run(("layer_norm",), x, weight)


def test_on_the_cpu_no_cuda_kernel_is_asked_for():
    assert not cuda.can_run(("layer_norm",), jt.ones((1, 2, 2, 4)), jt.ones((4,)))
