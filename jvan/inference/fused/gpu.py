"""The folded network on a GPU: products by cuBLAS, and the operators of ops.cuda between them."""

from __future__ import annotations

from typing import NamedTuple

import jittor as jt
import numpy as np

from ...models.van import VAN, check_input
from ...ops._jit import Arithmetic
from ...ops.cuda import folded
from ...ops.cuda.functions import layer_norm, patch_weight
from ...ops.cuda.launch import rounded, why_not
from ...structure import DEPTHWISE, Row, Stage
from .fold import FoldedBlock, Layer, fold_block, fold_patch_embed
from .fusable import NotFusable, sizes_of, tensors_of
from .network import InferenceNetwork
from .packing import section


class GPUInferenceVAN(InferenceNetwork):
    """See InferenceNetwork. Maps and products' weights are of `dtype`; sums, biases, depthwise taps, the last LayerNorm,
    pooled features and logits are float32. Raises NotFusable where the kernels cannot stand in for the model.
    """

    def __init__(self, model: VAN, dtype: str = "float32"):
        sums = "" if dtype == "float32" else f" maps and products of {dtype} weights, float32 sums,"
        super().__init__(model, Arithmetic(f"{sums or 'float32'} on the GPU".strip()))
        self._sizes, self._dtype = sizes_of(model), dtype
        reason = why_not(folded.FAMILIES, dtype)
        if reason:
            raise NotFusable(reason)
        tensors = tensors_of(model)
        self._stages = [self._stage(i, stage, tensors) for i, stage in enumerate(self._sizes.stages, start=1)]

    def _run(self, x, wanted=(), logits=False):
        check_input(x, self.in_chans)
        maps = [None] * 4
        with jt.no_grad():
            x = rounded(x.permute(0, 2, 3, 1), self._dtype)
            for i in range(4 if logits else max(wanted) + 1):
                x = self._advance(x, self._stages[i], last=i == 3)
                maps[i] = x.permute(0, 3, 1, 2).float32() if i in wanted else None
            return (self.head(x.mean([1, 2])) if logits else None), maps

    def _advance(self, x, stage: _Stage, last: bool):
        x = folded.patch_embed(x, stage.embed, stage.sizes.kernel, stage.sizes.stride)
        for block in stage.blocks:
            x = folded.attention(x, block, self._sizes.gate)
            x = folded.feed_forward(x, block)
        shape, x = x.shape, x.float32() if last else x
        return layer_norm(x.reshape((-1, shape[-1])), *stage.norm, self._sizes.norm_eps).reshape(shape)

    def _stage(self, i: int, sizes: Stage, tensors) -> _Stage:
        embed = fold_patch_embed(section(tensors, f"patch_embed{i}."))
        rows = np.moveaxis(embed.weight, 1, -1).reshape(len(embed.weight), -1)  # in the order of ops.cuda's patches
        kept = tuple(sizes.block(self._sizes.unit(sizes.chans)))
        folded_blocks = (fold_block(section(tensors, f"block{i}.{j}."), kept) for j in range(sizes.depth))
        blocks = [block.map(self._on_device, _vector) for block in folded_blocks]
        norm = _vector(tensors[f"norm{i}.weight"]), _vector(tensors[f"norm{i}.bias"])
        weight = rounded(patch_weight(_vector(rows), sizes.kernel), self._dtype).stop_grad()
        return _Stage(sizes, Layer(weight, _vector(embed.bias)), blocks, norm)

    def _on_device(self, row: Row, layer: Layer) -> Layer:
        weight = _vector(layer.weight)
        if row.kind != DEPTHWISE:  # whose taps stay float32
            weight = rounded(weight, self._dtype).stop_grad()
        return Layer(weight, _vector(layer.bias))


class _Stage(NamedTuple):
    """A stage's sizes and its layers, of jt.Var."""

    sizes: Stage
    embed: Layer
    blocks: list[FoldedBlock]
    norm: tuple


def _vector(array) -> jt.Var:
    return jt.array(np.asarray(array, np.float32)).stop_grad()
