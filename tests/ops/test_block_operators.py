"""The operators that are half a block each against plain Jittor and numpy in float64."""

import os

import jittor as jt
import numpy as np
import pytest

from jvan.ops._jit import run_kernel
from jvan.ops.attention import attention_fused, attention_ref
from jvan.ops.feed_forward import feed_forward_fused, feed_forward_ref
from jvan.ops.norm import FusedNorm
from tests.float64 import batch_norm, depthwise, gelu, normalised, pointwise

from .check import at_two_widths, check_op, vectors_of

EPS = 1e-5
# N, H, W, C: small maps that are all border, odd and prime ones, several bands of rows, several pictures to a group.
SHAPES = [(2, 1, 1, 3), (2, 7, 7, 17), (1, 13, 5, 33), (5, 4, 6, 8), (2, 41, 37, 6)]
HIDDEN = [5, 40, 70, 67, 130]
# N, H, W, C and hidden channels whose products are made by Strassen's algorithm: as many pictures as threads or more, else it
# is not used, of several strips of rows, and a product sums over several chunks of hidden channels.
HALVED = ((max(3, len(os.sched_getaffinity(0))), 8, 14, 320), 512)


def is_halved(shape, hidden):
    """Whether the feed-forward's products of this shape are made by Strassen's algorithm."""
    x = jt.zeros(shape[:1]).stop_grad()
    numbers = dict(zip(("batch", "height", "width", "chans", "hidden"), (*shape, hidden)))
    source = (
        "const jvan::FeedForward map = {batch, height, width, chans, hidden};\n"
        "out0_p[0] = jvan::Bands::pictures(map).can_halve();"
    )
    return bool(run_kernel("feed_forward_bands.h", source, [x], [(1,)], numbers)[0].item())


@at_two_widths
def test_which_products_are_halved(vector_bytes):
    """Else the cases that are to test Strassen's algorithm would test the plain products a second time."""
    with vectors_of(vector_bytes):
        assert is_halved(*HALVED)
        assert not any(is_halved(shape, hidden) for shape, hidden in zip(SHAPES, HIDDEN))


def random_arrays(shapes, seed=0):
    """Weights of a size that keeps the maps' at about one."""
    rng = np.random.RandomState(seed)
    spread = [np.prod(s[1:]) ** -0.5 if len(s) == 4 and i else 1.0 for i, s in enumerate(shapes)]
    return [(k * rng.standard_normal(s)).astype(np.float32) for k, s in zip(spread, shapes)]


def feed_forward_shapes(shape, hidden):
    chans = shape[-1]
    return [
        shape, (chans,), (chans,), (hidden, chans, 1, 1), (hidden,), (hidden, 1, 3, 3), (hidden,),
        (chans, hidden, 1, 1), (chans,), (chans,),
    ]  # fmt: skip


def attention_shapes(shape, local, remote):
    chans = shape[-1]
    product, vector = (chans, chans, 1, 1), (chans,)
    local, remote = (chans, 1, local, local), (chans, 1, remote, remote)
    return [shape, vector, vector, product, vector, local, vector, remote, vector, *[product, vector] * 2, vector]


def statistics(chans, constant):
    """Means and variances that do not depend on the batch, or none."""
    rng = np.random.RandomState(1)
    return (rng.standard_normal(chans), rng.uniform(0.5, 2, chans)) if constant else ()


def drop_path(batch):
    return np.random.RandomState(2).choice([0.0, 1.25], batch) + np.arange(batch) * 0.1


def as_vars(arrays):
    return [jt.array(a.astype(np.float32)) for a in arrays]


def numpy_norm(x, gamma, beta, fixed):
    if not fixed:
        return batch_norm(x, gamma, beta, EPS)
    return normalised(x, *fixed, gamma, beta, EPS)


def feed_forward_of(op, fixed, keep, recompute=False):
    def run(x, gamma, beta, w1, b1, taps, bias, w2, b2, scale):
        norm = FusedNorm(gamma, beta, EPS, *as_vars(fixed))
        return op(x, norm, (w1, b1), (taps, bias), (w2, b2), scale, *as_vars([keep]), recompute=recompute)[0]

    return run


def numpy_feed_forward(fixed, keep):
    def run(x, gamma, beta, w1, b1, taps, bias, w2, b2, scale):
        normal = numpy_norm(x, gamma, beta, fixed)
        hidden = gelu(depthwise(pointwise(normal, w1, b1), taps, bias, 1))
        return x + scale * pointwise(hidden, w2, b2) * keep[:, None, None, None]

    return run


def attention_of(op, dilation, fixed, keep, recompute=False):
    def run(x, gamma, beta, w1, b1, wl, bl, wr, br, w2, b2, w3, b3, scale):
        norm = FusedNorm(gamma, beta, EPS, *as_vars(fixed))
        layers = (w1, b1), (wl, bl), (wr, br), dilation, (w2, b2), (w3, b3)
        return op(x, norm, *layers, scale, *as_vars([keep]), recompute=recompute)[0]

    return run


def numpy_attention(dilation, fixed, keep):
    def run(x, gamma, beta, w1, b1, wl, bl, wr, br, w2, b2, w3, b3, scale):
        normal = numpy_norm(x, gamma, beta, fixed)
        u = gelu(pointwise(normal, w1, b1))
        gate = pointwise(depthwise(depthwise(u, wl, bl, 1), wr, br, dilation), w2, b2)
        return x + scale * (pointwise(u * gate, w3, b3) + normal) * keep[:, None, None, None]

    return run


@at_two_widths
@pytest.mark.parametrize("constant", [False, True], ids=["batch", "constant"])
@pytest.mark.parametrize("shape, hidden", [*zip(SHAPES, HIDDEN), HALVED], ids=str)
def test_feed_forward(shape, hidden, constant, vector_bytes):
    fixed, keep = statistics(shape[-1], constant), drop_path(shape[0])
    with vectors_of(vector_bytes):
        check_op(
            feed_forward_of(feed_forward_fused, fixed, keep),
            feed_forward_of(feed_forward_ref, fixed, keep),
            numpy_feed_forward(fixed, keep),
            random_arrays(feed_forward_shapes(shape, hidden)),
            tolerance=5e-5,
            directions=1,
        )


@at_two_widths
@pytest.mark.parametrize("constant", [False, True], ids=["batch", "constant"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention(shape, constant, vector_bytes):
    fixed, keep = statistics(shape[-1], constant), drop_path(shape[0])
    with vectors_of(vector_bytes):
        check_op(
            attention_of(attention_fused, 3, fixed, keep),
            attention_of(attention_ref, 3, fixed, keep),
            numpy_attention(3, fixed, keep),
            random_arrays(attention_shapes(shape, 5, 7)),
            tolerance=5e-5,
            directions=1,
        )


def gradients(op, arrays):
    variables = [jt.array(a) for a in arrays]
    out = op(*variables)
    return [out.numpy()] + [g.numpy() for g in jt.grad((out * out).sum(), variables)]


@pytest.mark.parametrize(
    "shape, hidden",
    [((3, 31, 29, 40), 90), ((1, 57, 43, 17), 90), HALVED],
    ids=str,
)
def test_what_is_made_again_is_the_same_to_the_bit(shape, hidden):
    keep = drop_path(shape[0])
    arrays = random_arrays(attention_shapes(shape, 3, 4))
    kept, again = (gradients(attention_of(attention_fused, 2, (), keep, r), arrays) for r in (False, True))
    assert all(np.array_equal(a, b) for a, b in zip(kept, again))
    arrays = random_arrays(feed_forward_shapes(shape, hidden))
    kept, again = (gradients(feed_forward_of(feed_forward_fused, (), keep, r), arrays) for r in (False, True))
    assert all(np.array_equal(a, b) for a, b in zip(kept, again))


@pytest.mark.parametrize("shape, hidden", [((3, 31, 29, 40), 90), HALVED], ids=str)
def test_the_same_bits_at_every_run(shape, hidden):
    arrays, keep = random_arrays(feed_forward_shapes(shape, hidden)), drop_path(shape[0])
    first, *others = (gradients(feed_forward_of(feed_forward_fused, (), keep), arrays) for _ in range(4))
    assert all(np.array_equal(a, b) for other in others for a, b in zip(first, other))


def test_gradients_twice():
    """A graph that was kept can be asked again, after the first time has freed what it could."""
    keep = drop_path(2)
    for op, shapes in (
        (attention_of(attention_fused, 1, (), keep), attention_shapes((2, 5, 7, 8), 3, 3)),
        (feed_forward_of(feed_forward_fused, (), keep), feed_forward_shapes((2, 5, 7, 8), 20)),
    ):
        variables = [jt.array(a) for a in random_arrays(shapes)]
        loss = op(*variables).sum()
        first = [g.numpy() for g in jt.grad(loss, variables)]
        assert all(np.array_equal(a, g.numpy()) for a, g in zip(first, jt.grad(loss, variables)))
