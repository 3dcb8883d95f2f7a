"""Products in AMX's tiles against float64 of the rounded values: by the emulated tiles, and by the processor's where it has them."""

import numpy as np
import pytest

from jvan.inference.fused.packing import _pairs, _panels
from jvan.ops import _jit
from tests.ops.blocks import gelu, in_blocks, nearest_bfloat16, normal, var

AFTER = ["nothing", "gelu", "rough_gelu", "times", "plus", "times_sigmoid"]  # enum After in product.h
RESIDUALS = ["no residual", "residual", "scaled residual", "scaled residual in place"]
SENTINEL = 77.0
# Rows [begin, end) of in0, in blocks or, where `row` is not 0, as rows of patches; out1 becomes the row that tiles leave off at.
PRODUCT = """
const long block = in2_shape1 * 32, panels = in2_shape0, floats = panels * block;
for (long i = 0; i < floats; i++) out0_p[i] = residual == 3 ? in2_p[i] : SENTINEL;
jvan::Product p = jvan::product(in0_p, block, int(depth) / 32, in1_p, has_bias ? in3_p : nullptr, out0_p, block, true, jvan::After(after));
if (row) p.row = row, p.chunk = p.depth = int(depth);
p.panel = depth / 2 * 32;
p.gate = in4_p;
if (residual) p.residual = residual == 3 ? out0_p : in2_p;
if (residual > 1) p.scale = in5_p;
const jvan::Product words = jvan::rounded(p, 0, end, in6_p);
const long left = jvan::multiply_in_tiles(words, begin, end, 0, int(panels));
jvan::multiply(words, left, end, 0, int(panels));
out1_p[0] = left;
""".replace("SENTINEL", str(SENTINEL))


def run(rows, ins, outs, begin=0, residual=0, after=0, has_bias=1, padding=None):
    """-> (found, wanted, where the tiles left off); two more rows than are asked for lie behind them."""
    pixels = begin + rows + 2
    x, weight, bias, scale = normal(pixels, ins), normal(ins, outs), normal(outs), normal(outs + 1)[:outs]
    other, gate = normal(pixels, outs), normal(pixels + 1, outs)[:pixels]
    numbers = {"begin": begin, "end": begin + rows, "depth": ins, "row": 0 if padding is None else ins + padding}
    numbers |= {"residual": residual, "after": after, "has_bias": has_bias}
    maps = [in_blocks(a) for a in (other, gate)]
    source = in_blocks(x) if padding is None else np.pad(x, [(0, 0), (0, padding)])
    inputs = [source, _pairs(_panels(weight)), maps[0], bias, maps[1], scale, np.full(pixels * ins // 2, np.nan)]
    out, left = _jit.run_kernel("block.h", PRODUCT, [var(a) for a in inputs], [maps[0].shape, (1,)], numbers)
    want = nearest_bfloat16(x) @ nearest_bfloat16(weight) + has_bias * bias.astype(np.float64)
    want += [0, other, other * scale.astype(np.float64), other * scale.astype(np.float64)][residual]
    u = gate.astype(np.float64)
    want = [want, gelu(want), gelu(want), want * u, want + u, u / (1 + np.exp(-want))][after]
    want[:begin] = other[:begin] if residual == 3 else SENTINEL
    want[-2:] = other[-2:] if residual == 3 else SENTINEL
    return np.moveaxis(out.numpy(), 0, 1).reshape(pixels, outs), want, int(left.numpy()[0])


def check(found, want, rough=False):
    size = np.abs(want[want != SENTINEL]).max()
    np.testing.assert_allclose(found, want, rtol=0, atol=2e-4 if rough else 2e-6 * max(size, 5))


@pytest.mark.parametrize("ins", [32, 96, 160])
@pytest.mark.parametrize("rows", [1, 3, 4, 15, 16, 17, 31, 32, 33, 35, 36, 49, 56, 96, 98, 100])
def test_rows(tiles, rows, ins):
    found, want, left = run(rows, ins, outs=64)
    check(found, want)
    assert left == rows - (rows % 32 if rows % 32 <= 3 else 0)


@pytest.mark.parametrize("residual", range(4), ids=RESIDUALS)
@pytest.mark.parametrize("after", range(6), ids=AFTER)
@pytest.mark.parametrize(("rows", "begin"), [(49, 0), (33, 5), (16, 1)])
def test_what_follows_the_sums(tiles, rows, begin, after, residual):
    found, want, left = run(rows, 96, 64, begin, residual, after)
    check(found, want, rough=AFTER[after] == "rough_gelu")
    assert left == begin + rows - (rows == 33)


@pytest.mark.parametrize("rows", [16, 17])
def test_no_bias(tiles, rows):
    found, want, _ = run(rows, 64, 32, has_bias=0)
    check(found, want)


@pytest.mark.parametrize("padding", [0, 16, 6])
def test_rows_of_patches(tiles, padding):
    found, want, left = run(48, 288, 32, residual=1, padding=padding)
    check(found, want)
    assert left == 48


@pytest.mark.parametrize("ins", [40, 72])
def test_words_that_are_no_whole_tiles_are_left(tiles, ins):
    found, want, left = run(48, ins, 32, padding=0)
    check(found, want)
    assert left == 0


def test_without_tiles_all_rows_are_left(monkeypatch):
    monkeypatch.setattr(_jit, "amx", 0)
    found, want, left = run(48, 96, 64, begin=3)
    check(found, want)
    assert left == 3
