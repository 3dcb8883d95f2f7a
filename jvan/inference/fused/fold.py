"""BatchNorm, layer scales and the inner shortcut folded into the neighbouring products. numpy alone.

The algebra is exact; it is done in float64, and the results are rounded to float32 when they are packed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...structure import CONVOLUTIONS, POINTWISE, UNIT, Row


@dataclass(frozen=True)
class Layer:
    """A convolution: weight in PyTorch's shape (O, I, K, K), or (O, I) for a product, and bias (O,); float64."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class FoldedBlock:
    """x ← x·scale + proj_2(gate(u, unit(u))) with u = gelu(proj_1(x)), then x ← x + fc2(gelu(dwconv(fc1(x)))).

    `rows` are structure.block's convolutions, in order, and `layers` has the folded one of each by its name.
    """

    rows: tuple[Row, ...]
    layers: dict[str, Layer]
    scale: np.ndarray

    @property
    def unit(self) -> list[tuple[Row, Layer]]:
        """The attention unit's convolutions."""
        return [(row, self.layers[row.name]) for row in self.rows if row.name.startswith(UNIT)]

    def map(self, change, scale) -> FoldedBlock:
        """With `change(row, layer)` of every layer, and another form of the scale."""
        layers = {row.name: change(row, self.layers[row.name]) for row in self.rows}
        return FoldedBlock(self.rows, layers, scale(self.scale))


def fold_block(tensors: dict[str, np.ndarray], rows) -> FoldedBlock:
    """A block of structure.block's `rows` from its tensors, and its BatchNorms' `norm1.eps` and `norm2.eps`.

    With bn(x) = g·x + b, the attention's half x + s₁·(proj_2(v) + bn(x)) is x·(1 + s₁·g) + s₁·b + s₁·proj_2(v).
    """
    rows = tuple(row for row in rows if row.kind in CONVOLUTIONS)
    layers = {row.name: _layer(tensors, row) for row in rows}
    gain, shift = _batch_norm(tensors, "norm1")
    scale_1, scale_2 = _wide(tensors["layer_scale_1"]), _wide(tensors["layer_scale_2"])
    proj_2, fc2 = layers["attn.proj_2"], layers["mlp.fc2"]
    layers.update({
        "attn.proj_1": _after_norm(layers["attn.proj_1"], gain, shift),
        "attn.proj_2": Layer(scale_1[:, None] * proj_2.weight, scale_1 * (proj_2.bias + shift)),
        "mlp.fc1": _after_norm(layers["mlp.fc1"], *_batch_norm(tensors, "norm2")),
        "mlp.fc2": Layer(scale_2[:, None] * fc2.weight, scale_2 * fc2.bias),
    })  # fmt: skip
    return FoldedBlock(rows, layers, 1 + scale_1 * gain)


def fold_patch_embed(tensors: dict[str, np.ndarray]) -> Layer:
    """A patch embedding, its tensors named `proj.weight` … `norm.running_var`, `norm.eps`: the norm follows the convolution."""
    gain, shift = _batch_norm(tensors, "norm")
    weight, bias = _wide(tensors["proj.weight"]), _wide(tensors["proj.bias"])
    return Layer(weight * gain[:, None, None, None], bias * gain + shift)


def _after_norm(layer: Layer, gain: np.ndarray, shift: np.ndarray) -> Layer:
    """The product of gain·x + shift as a product of x."""
    return Layer(layer.weight * gain, layer.bias + layer.weight @ shift)


def _batch_norm(tensors, name: str) -> tuple[np.ndarray, np.ndarray]:
    weight, bias, mean, var = (_wide(tensors[f"{name}.{k}"]) for k in ("weight", "bias", "running_mean", "running_var"))
    gain = weight / np.sqrt(var + tensors[f"{name}.eps"])
    return gain, bias - mean * gain


def _layer(tensors, row: Row) -> Layer:
    weight = _wide(tensors[f"{row.name}.weight"])
    return Layer(weight[:, :, 0, 0] if row.kind == POINTWISE else weight, _wide(tensors[f"{row.name}.bias"]))


def _wide(array) -> np.ndarray:
    return np.asarray(array, np.float64)
