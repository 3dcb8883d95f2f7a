"""The fused network's products and depthwise rows against float64, at several vector widths."""

import numpy as np
import pytest

from jvan.inference.fused.fold import Layer
from jvan.inference.fused.packing import _depthwise, _pairs, _panels, _product
from jvan.inference.fused.plan import BLOCK
from jvan.ops import _jit
from tests.ops.blocks import gelu, in_blocks, nearest_bfloat16, normal, var

WIDTHS = pytest.mark.parametrize("width", [None, 32, 16], ids=["processor's", "AVX2", "128 bits"])
AFTER = ["nothing", "gelu", "rough_gelu", "times", "plus", "times_sigmoid"]  # enum After in product.h
PRODUCT = """
jvan::Product p = jvan::product(in0_p, in0_shape1 * 32, in0_shape0, in1_p, in2_p, out0_p, in0_shape1 * 32, false, jvan::After(after));
p.gate = in3_p;
if (residual) p.residual = in3_p, p.scale = in4_p;
jvan::multiply(p, begin, in0_shape1, 0, out0_shape0);
"""
PAIRS = """
jvan::Product p = jvan::product(in0_p, in0_shape1 * 32, in0_shape0, in1_p, in2_p, out0_p, in0_shape1 * 32, true);
p.residual = in3_p;
jvan::multiply_floats(p, 0, in0_shape1, 0, out0_shape0, in4_p);
"""
DEPTHWISE = """
jvan::Depthwise d = {int(size), int(dilation), in1_p, in2_p, activate ? jvan::GELU : jvan::NOTHING};
for (int b = 0; b < in0_shape0; b++)
    jvan::depthwise(d.of(b), in0_p + b * in0_shape1 * in0_shape2 * 32, in0_shape1, in0_shape2, 0, in0_shape1,
                    out0_p + b * in0_shape1 * in0_shape2 * 32);
"""


@WIDTHS
@pytest.mark.parametrize("after", range(6), ids=AFTER)
@pytest.mark.parametrize(("pixels", "begin"), [(1, 0), (7, 0), (12, 0), (13, 0), (49, 0), (49, 25), (97, 3)])
@pytest.mark.parametrize(("ins", "outs", "residual"), [(32, 64, 0), (96, 32, 1), (160, 160, 1)])
def test_product(monkeypatch, width, after, pixels, begin, ins, outs, residual):
    monkeypatch.setattr(_jit, "vector_bytes", width)
    x, weight, bias, gate, scale = (
        normal(pixels, ins),
        normal(ins, outs),
        normal(outs),
        normal(pixels, outs),
        normal(outs),
    )
    numbers = {"after": after, "residual": residual, "begin": begin}
    inputs = [in_blocks(x), _panels(weight), bias, in_blocks(gate), scale]
    out = _jit.run_kernel("block.h", PRODUCT, [var(a) for a in inputs], [in_blocks(gate).shape], numbers)[0].numpy()
    found = np.moveaxis(out, 0, 1).reshape(pixels, outs)[begin:]
    want = x.astype(np.float64) @ weight + bias + residual * (gate.astype(np.float64) * scale)
    sigmoid = 1 / (1 + np.exp(-want))
    want = [want, gelu(want), gelu(want), want * gate, want + gate, gate * sigmoid][after][begin:]
    np.testing.assert_allclose(
        found, want, rtol=0, atol=2e-4 if AFTER[after] == "rough_gelu" else 2e-6 * max(np.abs(want).max(), 5)
    )


@WIDTHS
@pytest.mark.parametrize("pixels", [1, 13, 97, 200])
def test_bfloat16_product(monkeypatch, width, pixels):
    monkeypatch.setattr(_jit, "vector_bytes", width)
    ins, outs = 96, 64
    x, weight, bias, other = normal(pixels, ins), normal(ins, outs), normal(outs), normal(pixels, outs)
    words = np.zeros(96 * ins // 2)
    inputs = [in_blocks(x), _pairs(_panels(weight)), bias, in_blocks(other), words]
    out = _jit.run_kernel("block.h", PAIRS, [var(a) for a in inputs], [in_blocks(other).shape], {})[0].numpy()
    want = nearest_bfloat16(x) @ nearest_bfloat16(weight) + bias + other
    np.testing.assert_allclose(np.moveaxis(out, 0, 1).reshape(pixels, outs), want, rtol=0, atol=1e-5)


@WIDTHS
@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (3, 1), (5, 1), (7, 1), (7, 3), (3, 3), (4, 2), (10, 2)])
@pytest.mark.parametrize(("height", "breadth"), [(1, 1), (2, 5), (7, 7), (9, 14), (13, 31), (3, 57)])
def test_depthwise(monkeypatch, width, size, dilation, height, breadth):
    monkeypatch.setattr(_jit, "vector_bytes", width)
    chans, activate = 64, int(size == 3)
    x, weight, bias = normal(chans, height, breadth), normal(chans, 1, size, size), normal(chans)
    taps, padded = _depthwise(Layer(weight, bias))
    blocked = np.moveaxis(x.reshape(-1, BLOCK, height, breadth), 1, -1)
    numbers = {"size": size, "dilation": dilation, "activate": activate}
    out = _jit.run_kernel("block.h", DEPTHWISE, [var(a) for a in (blocked, taps, padded)], [blocked.shape], numbers)[0]
    found = np.moveaxis(out.numpy(), -1, 1).reshape(x.shape)
    pad = dilation * (size - 1) // 2
    wide = np.pad(x.astype(np.float64), ((0, 0), (pad, pad + dilation), (pad, pad + dilation)))
    want = bias[:, None, None].astype(np.float64)
    for ky in range(size):
        for kx in range(size):
            part = wide[:, ky * dilation :, kx * dilation :][:, :height, :breadth]
            want = want + weight[:, :, ky, kx, None] * part
    want = gelu(want) if activate else want
    np.testing.assert_allclose(found, want, rtol=0, atol=3e-6 * np.abs(want).max())


def test_panels_hold_every_weight_once():
    weight = np.arange(1.0, 1 + 5 * 70).reshape(70, 5)
    panels, bias = _product(Layer(weight, np.ones(70)))
    assert panels.shape == (3, 32, 32) and bias.shape == (96,)
    for o, i in [(0, 0), (31, 4), (32, 0), (69, 3)]:
        assert panels[o // 32, i, o % 32] == weight[o, i]
    assert np.sort(panels[panels != 0]).tolist() == weight.ravel().tolist()
