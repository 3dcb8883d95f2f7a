"""Weights as the fused network reads them, one array of float32 (the order is that of ops/kernels/network.h)."""

from __future__ import annotations

import numpy as np

from ...ops.cuda.arrays import stored
from ...structure import DEPTHWISE
from .fold import FoldedBlock, Layer, fold_block, fold_patch_embed
from .plan import ALIGNMENT, BLOCK, Sizes


def pack_weights(sizes: Sizes, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Every weight in the order in which the operator takes them, each piece on a cache line; tensors as `fusable.tensors_of` names them."""
    return np.concatenate([_aligned(piece) for piece in _pieces(sizes, tensors)])


def _pieces(sizes: Sizes, tensors: dict[str, np.ndarray]):
    for i, stage in enumerate(sizes.stages, start=1):
        embed = fold_patch_embed(section(tensors, f"patch_embed{i}."))
        panels = _patch_panels(embed.weight, stem=i == 1)
        yield _pairs(panels) if sizes.bfloat16_pairs and i > 1 else panels
        yield _padded(embed.bias)
        rows = tuple(stage.block(sizes.unit(stage.chans)))
        for j in range(stage.depth):
            block = fold_block(section(tensors, f"block{i}.{j}."), rows)
            yield from _block_pieces(block, sizes.bfloat16_pairs)
        yield _padded(tensors[f"norm{i}.weight"])
        yield _padded(tensors[f"norm{i}.bias"])
    if sizes.classes:
        yield from _product(Layer(tensors["head.weight"], tensors["head.bias"]))


def _block_pieces(block: FoldedBlock, pairs: bool):
    """The convolutions in the table's order, and the scale of the inner shortcut before the product that it belongs to."""
    for row in block.rows:
        if row.name == "attn.proj_2":
            yield _padded(block.scale)
        layer = block.layers[row.name]
        yield from _depthwise(layer) if row.kind == DEPTHWISE else _product(layer, pairs)


def _product(layer: Layer, pairs: bool = False) -> list[np.ndarray]:
    panels = _panels(_fill(layer.weight.T, 0))
    return [_pairs(panels) if pairs else panels, _padded(layer.bias)]


def _pairs(panels: np.ndarray) -> np.ndarray:
    """(blocks, depth, 32) -> (blocks, depth / 2, 32): words of two bfloat16, the earlier row's in the lower half."""
    bits = stored(panels, "bfloat16").astype(np.uint32)
    return (bits[:, 0::2] | bits[:, 1::2] << 16).view(np.float32)


def _depthwise(layer: Layer) -> list[np.ndarray]:
    """(C, 1, K, K) -> (blocks, K, K, 32)"""
    taps = _fill(layer.weight[:, 0], 0)
    return [np.moveaxis(taps.reshape(-1, BLOCK, *taps.shape[1:]), 1, -1), _padded(layer.bias)]


def _patch_panels(weight: np.ndarray, stem: bool) -> np.ndarray:
    """(O, C, K, K) with the patches' values in the order (c, ky, kx) of a picture, or (ky, kx, c) of a map."""
    if stem:
        return _panels(weight.reshape(len(weight), -1).T)
    patches = np.moveaxis(_fill(weight, 1), 0, -1)  # (C, ky, kx, O)
    return _panels(np.moveaxis(patches, 0, 2).reshape(-1, len(weight)))


def _panels(matrix: np.ndarray) -> np.ndarray:
    """(depth, O) -> (blocks, depth, 32)"""
    matrix = _fill(matrix, 1)
    return np.moveaxis(matrix.reshape(len(matrix), -1, BLOCK), 1, 0)


def _padded(vector: np.ndarray) -> np.ndarray:
    return _fill(np.asarray(vector), 0)


def _fill(array: np.ndarray, axis: int) -> np.ndarray:
    """Zeros up to a whole number of blocks along `axis`."""
    missing = [(0, 0)] * array.ndim
    missing[axis] = (0, -array.shape[axis] % BLOCK)
    return np.pad(array, missing)


def _aligned(piece: np.ndarray) -> np.ndarray:
    flat = np.asarray(piece, np.float32).ravel()
    return np.pad(flat, (0, -flat.size % ALIGNMENT))


def section(tensors, prefix: str) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
