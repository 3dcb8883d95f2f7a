"""The CUDA kernels, run on the host, against numpy in float64: outputs and every gradient, in all types of maps and parameters."""

import numpy as np
import pytest

from jvan.ops.cuda import verify
from jvan.ops.cuda.arrays import exact, stored
from jvan.ops.cuda.operators import TILE
from tools.cuda_emulator.emulator import TYPES

at_all_types = pytest.mark.parametrize("types", TYPES, ids="-".join)


def check(family, run, types, **case):
    errors = verify.CHECKS[family](run, types, **case)
    bad = {what: error for what, error in errors.items() if not error <= 1}
    assert errors and not bad, f"in units of the tolerance: {bad}"


# N, H, W, C: one pixel; VAN's smallest map; widths that no vector divides; more columns, rows, channels than a block takes.
MAPS = [(1, 1, 1, 1), (3, 7, 7, 20), (1, 7, 7, 256), (1, 13, 5, 33), (1, 3, 131, 8), (1, 66, 2, 16)]
# Each type of maps and of parameters with all, the other pairs of them with one: it costs seconds.
MAPS_OF_TYPES = [(types, shape) for i, types in enumerate(TYPES) for shape in (MAPS if i < 3 else MAPS[1:2])]


@pytest.mark.parametrize("types, shape", MAPS_OF_TYPES, ids=str)
# The network's sizes; then those without a loop of their own: even ones, and one that reaches past every map.
@pytest.mark.parametrize("size, dilation", [(5, 1), (7, 3), (3, 1), (3, 2), (4, 2), (2, 1), (1, 1), (9, 4)])
def test_depthwise(run, types, shape, size, dilation):
    check("depthwise", run, types, shape=shape, size=size, dilation=dilation)


@pytest.mark.parametrize("tile", [(1, 1, 1, 32), (3, 5, 0, 64), (4, 2, 2, 96), (7, 16, 3, 256)])
@pytest.mark.parametrize("size, dilation", [(7, 3), (5, 1), (6, 2)])
def test_depthwise_cut_otherwise(run, size, dilation, tile):
    """Halos on all sides, rows and columns that are left over, blocks of more or fewer threads than work."""
    check("depthwise", run, TYPES[0], shape=(2, 5, 9, 12), size=size, dilation=dilation, tile=dict(zip(TILE, tile)))


# Maps about as large as the kernels' reach.
@pytest.mark.parametrize(
    "types, shape, size, dilation",
    [
        (TYPES[1], (1, 34, 34, 16), 12, 3),
        (TYPES[0], (1, 31, 31, 16), 7, 5),
        (TYPES[1], (1, 9, 70, 16), 5, 8),
        (TYPES[0], (1, 23, 24, 12), 21, 1),
        (TYPES[2], (1, 23, 24, 16), 21, 1),
        (TYPES[0], (1, 33, 20, 8), 31, 1),
        (TYPES[1], (1, 17, 34, 8), 31, 1),
        (TYPES[0], (2, 51, 13, 8), 7, 8),
        (TYPES[2], (1, 49, 50, 8), 7, 8),
    ],
    ids=str,
)
# An H100's, what every GPU has, and so little that no tile fits: the emulator refuses a launch that asks for more.
@pytest.mark.parametrize("shared_limit", [227 * 1024, 48 * 1024, 1024])
def test_depthwise_of_any_size_and_reach(emulator, types, shape, size, dilation, shared_limit):
    emulator.set(shared_limit=shared_limit, backwards=size % 2 == 0)
    try:
        check("depthwise", emulator.run, types, shape=shape, size=size, dilation=dilation)
    finally:
        emulator.set()


@at_all_types
@pytest.mark.parametrize("shape, size, dilation", [((2, 7, 9, 12), 9, 1), ((3, 7, 7, 33), 7, 3), ((1, 1, 5, 3), 10, 2)])
def test_depthwise_without_tiles(emulator, types, shape, size, dilation):
    """Their taps alone would fill a block's shared memory; with the input's bias and GELU as well."""
    emulator.set(shared_limit=1024)
    try:
        check("depthwise", emulator.run, types, shape=shape, size=size, dilation=dilation)
        if size != 7:  # which has a loop of its own that adds no bias to its input
            check("depthwise_gelu", emulator.run, types, shape=shape, size=size)
    finally:
        emulator.set()


def test_a_tile_that_is_read_for_few_outputs_is_not_taken(emulator):
    """3×3 with 60 pixels between its taps: on an H100 a tile of 121×121 pixels would not fit, nor be worth it."""
    check("depthwise", emulator.run, TYPES[0], shape=(1, 125, 127, 4), size=3, dilation=60)


@at_all_types
@pytest.mark.parametrize("shape", [(2, 7, 9, 12), (1, 1, 1, 3), (1, 3, 5, 130)], ids=str)
def test_depthwise_gelu(run, types, shape):
    check("depthwise_gelu", run, types, shape=shape)


@pytest.mark.parametrize("size", [3, 4, 9])
def test_depthwise_gelu_of_other_sizes_and_cuts(run, size):
    """3×3 has a loop of its own, the others have not."""
    for tile in ({}, {"tile_height": 3, "tile_width": 5, "shift": 1, "threads": 64}):
        check("depthwise_gelu", run, TYPES[2], size=size, tile=tile)


# Rows, channels: one; a few; widths that no vector divides; several blocks of rows and of columns.
ROWS = [(1, 1), (37, 20), (5, 33), (50, 600), (700, 17)]


@at_all_types
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_epilogue(run, types, shape):
    check("epilogue", run, types, shape=shape)


@at_all_types
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 13, 20), (3, 49, 256), (2, 35, 33)], ids=str)
def test_residual(run, types, shape):
    check("residual", run, types, shape=shape)


@at_all_types
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_shortcut(run, types, shape):
    check("shortcut", run, types, shape=shape)


@at_all_types
@pytest.mark.parametrize("shape", [(2, 1), *ROWS[1:]], ids=str)
def test_batch_norm(run, types, shape):
    check("batch_norm", run, types, shape=shape)


@pytest.mark.parametrize("offset", [1000.0, -30000.0])
def test_statistics_of_values_far_from_zero(run, offset):
    """E[x²] - E[x]² in float32 would lose the variance altogether."""
    check("batch_norm", run, TYPES[0], shape=(1300, 17), offset=offset)


def test_statistics_with_one_odd_value(run):
    """The channel's first value, to which all others are taken relative, may be the odd one."""
    x = np.random.RandomState(0).standard_normal((1300, 17)).astype(np.float32)
    x[0] = 1e4
    _, var, _ = run("batch_statistics", TYPES[0], [x], [(17,), (17,), (3, 3, 17)], {})
    np.testing.assert_allclose(var, x.astype(np.float64).var(0), rtol=3e-5)


def test_sums_of_many_blocks(run):
    """More than 128 of them, which are added otherwise; some have no row at all."""
    x = np.random.RandomState(0).standard_normal((700, 17)).astype(np.float32)
    total, _ = run("bias_backward", TYPES[0], [x], [(17,), (300, 1, 17)], {})
    mean, var, _ = run("batch_statistics", TYPES[0], [x], [(17,), (17,), (300, 3, 17)], {})
    for ours, exact_ones in (
        (total, x.sum(0, np.float64)),
        (mean, x.mean(0, np.float64)),
        (var, x.astype(float).var(0)),
    ):
        np.testing.assert_allclose(ours, exact_ones, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1,), (3,), (4,), (1025,), (41, 67), (2, 3, 5, 7)], ids=str)
def test_adamw(run, shape):
    """Less than a vector, whole ones, several blocks."""
    check("adamw", run, TYPES[0], shape=shape)


@at_all_types
@pytest.mark.parametrize("shape", [*ROWS[:4], (70, 17)], ids=str)
def test_layer_norm(run, types, shape):
    check("layer_norm", run, types, shape=shape)


@at_all_types
@pytest.mark.parametrize(
    "shape, size, stride, padding",
    [
        ((2, 9, 11, 3), 7, 4, 3),
        ((3, 7, 8, 24), 3, 2, 1),
        ((1, 1, 1, 5), 3, 2, 1),
        ((1, 5, 6, 8), 2, 3, 0),
        ((2, 33, 18, 4), 2, 2, 1),
    ],
    ids=str,
)
def test_patches(run, types, shape, size, stride, padding):
    check("patches", run, types, shape=shape, size=size, stride=stride, padding=padding)


def test_pointers_that_are_not_aligned(emulator):
    """A map that begins between two vectors takes the scalar loads: a GPU refuses the others."""
    before = emulator.misaligned
    emulator.misaligned = True
    try:
        for family in verify.CHECKS:
            check(family, emulator.run, TYPES[1])
    finally:
        emulator.misaligned = before


@pytest.mark.parametrize("types", TYPES[1:], ids="-".join)
def test_rounding_of_the_emulated_types(run, types):
    """To the nearest even, also of subnormal numbers; too large ones become infinite."""
    rng = np.random.RandomState(0)
    p = np.concatenate([rng.standard_normal(500) * 10.0 ** rng.randint(-9, 5, 500), [1, 1, 65504, 65504, 6.1e-5, 3e-8]])
    b = np.concatenate(
        [rng.standard_normal(500) * 10.0 ** rng.randint(-9, 5, 500), [2**-11, 3 * 2**-11, 15, 16, 1e-7, 0]]
    )
    p, b = stored(p, types[0]), stored(b, types[1])
    (y,) = run("bias", types, [p.reshape(1, -1), b], [(1, len(p))], {"with_gelu": 0, "slices": 1})
    with np.errstate(over="ignore"):
        expected = stored((exact(p) + exact(b)).astype(np.float32), types[0])
    np.testing.assert_array_equal(y[0], expected)


@pytest.mark.parametrize("types, vectors", [(types, 257) for types in TYPES] + [(TYPES[0], 8192 * 256 + 300)])
def test_copy(run, types, vectors):
    """More vectors than a block has threads, and than the whole grid."""
    x = stored(np.arange(vectors * (4 if types[0] == "float32" else 8), dtype=np.float32) % 251, types[0])
    for name in ("copy", "driver_copy"):
        (y,) = run(name, types, [x], [x.shape], {})
        assert y.tobytes() == x.tobytes()
