"""The depthwise kernels against plain Jittor and numpy in float64, for two widths of vectors."""

import jittor as jt
import numpy as np
import pytest

from jvan.ops import _jit
from jvan.ops.depthwise import depthwise, depthwise_fused, depthwise_ref
from tests import float64

from .check import at_two_widths, check_op, vectors_of

# N, H, W: one pixel, less and more than the kernels reach over, a tile and its remainder, primes, rows and columns.
MAPS = [(1, 1, 1), (2, 7, 7), (1, 13, 5), (3, 4, 4), (1, 2, 31), (1, 37, 1), (2, 29, 23)]
CHANS = [1, 5, 17, 33, 64]
# The network's, then others: a dilated 3×3, an even K, K = 1, one that reaches past every map, an uneven padding.
KERNELS = [(5, 1), (7, 3), (3, 1), (3, 2), (4, 2), (1, 1), (9, 4), (2, 1)]


def random_inputs(batch, height, width, chans, size, seed=0):
    rng = np.random.RandomState(seed)
    shapes = [(batch, height, width, chans), (chans, 1, size, size), (chans,)]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@at_two_widths
@pytest.mark.parametrize("chans", CHANS)
@pytest.mark.parametrize("size, dilation", KERNELS)
def test_kernels(size, dilation, chans, vector_bytes):
    with vectors_of(vector_bytes):
        for shape in MAPS:
            check_op(
                lambda x, w, b: depthwise_fused(x, w, b, dilation),
                # Plain Jittor compiles anew for each number of channels, and cannot do the uneven padding.
                (lambda x, w, b: depthwise_ref(x, w, b, dilation)) if chans == 17 and size != 2 else None,
                lambda x, w, b: float64.depthwise(x, w, b, dilation),
                random_inputs(*shape, chans, size),
            )


@at_two_widths
@pytest.mark.parametrize("chans", [1, 33])
@pytest.mark.parametrize("size, dilation", KERNELS)
def test_64_pictures(size, dilation, chans, vector_bytes):
    with vectors_of(vector_bytes):
        for shape in [(64, 1, 1), (64, 7, 5)]:
            check_op(
                lambda x, w, b: depthwise_fused(x, w, b, dilation),
                None,
                lambda x, w, b: float64.depthwise(x, w, b, dilation),
                random_inputs(*shape, chans, size),
                directions=1,
            )


@pytest.mark.parametrize("shape", [(1, 56, 56, 32), (16, 7, 7, 256), (2, 30, 58, 96)], ids=str)
@pytest.mark.parametrize("size, dilation", [(5, 1), (7, 3), (3, 1)])
def test_sizes_of_the_network(shape, size, dilation):
    """Enough pixels that the work is cut among threads, in rows and in blocks of channels."""
    check_op(
        lambda x, w, b: depthwise_fused(x, w, b, dilation),
        None,
        lambda x, w, b: float64.depthwise(x, w, b, dilation),
        random_inputs(*shape, size),
        directions=1,
    )


@pytest.mark.parametrize("size, dilation", [(5, 1), (7, 3), (3, 1)])
def test_the_same_bits_at_every_run(size, dilation):
    arrays = random_inputs(3, 31, 29, 40, size)

    def run():
        variables = [jt.array(a) for a in arrays]
        output = depthwise_fused(*variables, dilation)
        return [output.numpy()] + [g.numpy() for g in jt.grad((output * output).sum(), variables)]

    first = run()
    for _ in range(5):
        assert all(np.array_equal(a, b) for a, b in zip(first, run()))


def test_long_sums_stay_exact():
    """The weights' gradient adds 16 · 64 · 64 products: in one float32 sum after another it would err by 1e-4."""
    x, weight, bias = random_inputs(16, 64, 64, 16, 3)
    x, dy = np.abs(x), np.abs(random_inputs(16, 64, 64, 16, 3, seed=1)[0])
    w, b = jt.array(weight), jt.array(bias)
    dw, db = jt.grad((depthwise_fused(jt.array(x), w, b) * jt.array(dy)).sum(), [w, b])
    centre = (x.astype(np.float64) * dy).sum((0, 1, 2))
    np.testing.assert_allclose(dw.numpy()[:, 0, 1, 1], centre, rtol=2e-6)
    np.testing.assert_allclose(db.numpy(), dy.astype(np.float64).sum((0, 1, 2)), rtol=2e-6)


def test_inputs_that_need_no_gradient():
    x, weight, bias = (jt.array(a) for a in random_inputs(1, 5, 6, 8, 3))
    output = depthwise_fused(x.stop_grad(), weight, bias.stop_grad())
    expected = depthwise_ref(x, weight, bias)
    np.testing.assert_allclose(
        jt.grad(output.sum(), weight).numpy(), jt.grad(expected.sum(), weight).numpy(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_types_take_plain_jittor(dtype):
    arrays = random_inputs(1, 5, 6, 8, 3)
    x, weight, bias = (jt.array(a).cast(dtype) for a in arrays)
    output = depthwise(x, weight, bias)
    assert output.dtype == dtype
    exact = float64.depthwise(*(a.astype(np.float64) for a in arrays), 1)
    np.testing.assert_allclose(output.float32().numpy(), exact, atol=0.3 if "16" in dtype else 1e-5)


def test_dispatch(monkeypatch):
    x, weight, bias = (jt.array(a) for a in random_inputs(1, 5, 6, 8, 3))
    chosen = []
    module = "jvan.ops.depthwise"
    monkeypatch.setattr(f"{module}.depthwise_ref", lambda *a: chosen.append("ref"))
    monkeypatch.setattr(f"{module}.depthwise_fused", lambda *a: chosen.append("fused"))
    depthwise(x, weight, bias)
    monkeypatch.setenv(_jit.SWITCH, "0")
    depthwise(x, weight, bias)
    assert chosen == ["fused", "ref"]


def test_a_compiler_that_cannot_is_said(monkeypatch):
    x, weight, bias = (jt.array(a) for a in random_inputs(1, 5, 6, 8, 3))
    monkeypatch.setattr(_jit, "_compiler_fault", lambda path: "the C++ kernels are off: no compiler for them")
    _jit.warn_once.cache_clear()
    with pytest.warns(UserWarning, match="no compiler for them; plain Jittor operators run instead"):
        depthwise(x, weight, bias).sync()
