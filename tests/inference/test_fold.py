"""The folding is exact: a block before and after it, both in float64 with plain loops."""

import math

import numpy as np
import pytest

from jvan.inference.fold import BATCH_NORM_EPS, fold_block, fold_patch_embed
from tests.inference.random_network import random_tensors
from weights_convert.random_state import official_shapes, stream

CHANS, HIDDEN, SIDE = 4, 8, 6


def tensors(prefix: str) -> dict[str, np.ndarray]:
    shapes = official_shapes((CHANS, 8, 8, 8), (1, 1, 1, 1), (2, 2, 2, 2))
    state = random_tensors(shapes)
    return {name[len(prefix) :]: np.float64(value) for name, value in state.items() if name.startswith(prefix)}


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def convolve(x, weight, bias, dilation=1, groups=1, stride=1):
    """x: (C, H, W); padding dilation·(K - 1) / 2"""
    size, (_, height, width) = weight.shape[-1], x.shape
    pad = dilation * (size - 1) // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    out = 0
    for ky in range(size):
        for kx in range(size):
            part = x[:, ky * dilation :, kx * dilation :][:, :height:stride, :width:stride]
            taps = weight[:, :, ky, kx]
            out = out + (taps[:, 0, None, None] * part if groups > 1 else np.einsum("oi,ihw->ohw", taps, part))
    return out + bias[:, None, None]


def norm(x, t, name):
    gain = t[f"{name}.weight"] / np.sqrt(t[f"{name}.running_var"] + BATCH_NORM_EPS)
    return (x - t[f"{name}.running_mean"][:, None, None]) * gain[:, None, None] + t[f"{name}.bias"][:, None, None]


def plain_block(x, t):
    def conv(x, name, **options):
        return convolve(x, t[f"{name}.weight"], t[f"{name}.bias"], **options)

    scales = [t[f"layer_scale_{i}"][:, None, None] for i in (1, 2)]
    y = norm(x, t, "norm1")
    u = gelu(conv(y, "attn.proj_1"))
    lka = "attn.spatial_gating_unit"
    a = conv(u, f"{lka}.conv0", groups=CHANS)
    a = conv(conv(a, f"{lka}.conv_spatial", groups=CHANS, dilation=3), f"{lka}.conv1")
    x = x + scales[0] * (conv(u * a, "attn.proj_2") + y)
    h = conv(norm(x, t, "norm2"), "mlp.fc1")
    return x + scales[1] * conv(gelu(conv(h, "mlp.dwconv.dwconv", groups=HIDDEN)), "mlp.fc2")


def folded_block(x, t):
    block = fold_block(t)

    def conv(x, layer, **options):
        weight = layer.weight if layer.weight.ndim == 4 else layer.weight[:, :, None, None]
        return convolve(x, weight, layer.bias, **options)

    u = gelu(conv(x, block.proj_1))
    a = conv(conv(u, block.conv0, groups=CHANS), block.conv_spatial, groups=CHANS, dilation=3)
    x = x * block.scale[:, None, None] + conv(u * conv(a, block.conv1), block.proj_2)
    return x + conv(gelu(conv(conv(x, block.fc1), block.dwconv, groups=HIDDEN)), block.fc2)


def test_a_block():
    t = tensors("block1.0.")
    x = stream("x").standard_normal((CHANS, SIDE, SIDE))
    want = plain_block(x, t)
    assert np.abs(want - x).max() > 0.1
    np.testing.assert_allclose(folded_block(x, t), want, rtol=0, atol=1e-12)


def test_a_patch_embedding():
    t = tensors("patch_embed1.")
    x = stream("x").standard_normal((3, 16, 16))
    want = norm(convolve(x, t["proj.weight"], t["proj.bias"], stride=4), t, "norm")
    layer = fold_patch_embed(t)
    np.testing.assert_allclose(convolve(x, layer.weight, layer.bias, stride=4), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("part", ["conv0", "conv_spatial", "conv1"])
def test_a_part_that_is_left_out_is_none(part):
    t = {name: value for name, value in tensors("block1.0.").items() if f".{part}." not in name}
    block = fold_block(t)
    assert [name for name, value in vars(block).items() if value is None] == [part]
