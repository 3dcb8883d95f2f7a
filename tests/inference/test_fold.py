"""The folding is exact: a block before and after it, both in float64 with plain loops."""

import numpy as np
import pytest

from jvan import structure
from jvan.inference.fused.fold import fold_block, fold_patch_embed
from tests import float64
from tests.inference.random_network import random_tensors
from weights_convert.random_state import official_shapes, stream

CHANS, SIDE = 4, 6


def tensors(prefix: str) -> dict[str, np.ndarray]:
    shapes = official_shapes((CHANS, 8, 8, 8), (1, 1, 1, 1), (2, 2, 2, 2))
    state = random_tensors(shapes)
    found = {name[len(prefix) :]: np.float64(value) for name, value in state.items() if name.startswith(prefix)}
    return {**found, **{f"{name}.eps": np.float64(1e-5) for name in ("norm", "norm1", "norm2")}}


ROWS = tuple(structure.block(CHANS, 2 * CHANS, structure.lka_rows(CHANS, 5, 7, 3)))


def folded_block(x, t):
    block = fold_block(t, ROWS)
    layers = {name.rpartition(".")[2]: (layer.weight, layer.bias) for name, layer in block.layers.items()}
    u = float64.gelu(float64.pointwise(x, *layers["proj_1"]))
    a = float64.depthwise(float64.depthwise(u, *layers["conv0"]), *layers["conv_spatial"], 3)
    x = x * block.scale + float64.pointwise(u * float64.pointwise(a, *layers["conv1"]), *layers["proj_2"])
    hidden = float64.gelu(float64.depthwise(float64.pointwise(x, *layers["fc1"]), *layers["dwconv"]))
    return x + float64.pointwise(hidden, *layers["fc2"])


def test_a_block():
    t = tensors("block1.0.")
    x = stream("x").standard_normal((1, SIDE, SIDE, CHANS))
    want = float64.block(x, t)
    assert np.abs(want - x).max() > 0.1
    np.testing.assert_allclose(folded_block(x, t), want, rtol=0, atol=1e-12)


def test_a_patch_embedding():
    t = tensors("patch_embed1.")
    x = stream("x").standard_normal((1, 16, 16, 3))
    want = float64.patch_embed(x, t, stride=4)
    layer = fold_patch_embed(t)
    found = float64.conv(x, layer.weight, layer.bias, stride=4, padding=3)
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("part", structure.LKA)
def test_a_part_that_is_left_out_is_no_layer(part):
    parts = [other for other in structure.LKA if other != part]
    block = fold_block(
        tensors("block1.0."), structure.block(CHANS, 2 * CHANS, structure.lka_rows(CHANS, 5, 7, 3, parts))
    )
    assert [row.name for row, _ in block.unit] == [f"{structure.UNIT}.{structure.LKA[other]}" for other in parts]
