"""BatchNorm, layer scales and the inner shortcut folded into the neighbouring products. numpy alone.

The algebra is exact; it is done in float64, and the results are rounded to float32 when they are packed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Layer:
    """A convolution: weight in PyTorch's shape (O, I, K, K), or (O, I) for a product, and bias (O,); float64."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class FoldedBlock:
    """x ← x·scale + proj_2(gate(u, attention)) with u = gelu(proj_1(x)), then x ← x + fc2(gelu(dwconv(fc1(x)))).

    An ablated part of the attention is None.
    """

    proj_1: Layer
    dw: Layer | None
    dw_d: Layer | None
    pw: Layer | None
    scale: np.ndarray
    proj_2: Layer
    fc1: Layer
    dwconv: Layer
    fc2: Layer


def fold_block(tensors: dict[str, np.ndarray]) -> FoldedBlock:
    """A block from its tensors, named as in a checkpoint from `norm1` on, and its BatchNorms' `norm1.eps` and `norm2.eps`.

    With bn(x) = g·x + b, the attention's half x + s₁·(proj_2(v) + bn(x)) is x·(1 + s₁·g) + s₁·b + s₁·proj_2(v).
    """
    layer = _reader(tensors)
    gain, shift = _batch_norm(tensors, "norm1")
    scale_1, scale_2 = _wide(tensors["layer_scale_1"]), _wide(tensors["layer_scale_2"])
    lka = "attn.spatial_gating_unit"
    proj_2 = layer("attn.proj_2")
    fc2 = layer("mlp.fc2")
    return FoldedBlock(
        proj_1=_after_norm(layer("attn.proj_1"), gain, shift),
        dw=layer(f"{lka}.conv0"),
        dw_d=layer(f"{lka}.conv_spatial"),
        pw=layer(f"{lka}.conv1"),
        scale=1 + scale_1 * gain,
        proj_2=Layer(scale_1[:, None] * proj_2.weight, scale_1 * (proj_2.bias + shift)),
        fc1=_after_norm(layer("mlp.fc1"), *_batch_norm(tensors, "norm2")),
        dwconv=layer("mlp.dwconv.dwconv"),
        fc2=Layer(scale_2[:, None] * fc2.weight, scale_2 * fc2.bias),
    )


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


def _reader(tensors):
    def layer(name: str) -> Layer | None:
        if f"{name}.weight" not in tensors:
            return None
        weight = _wide(tensors[f"{name}.weight"])
        pointwise = weight.shape[2:] == (1, 1) and "conv0" not in name and "conv_spatial" not in name
        return Layer(weight[:, :, 0, 0] if pointwise else weight, _wide(tensors[f"{name}.bias"]))

    return layer


def _wide(array) -> np.ndarray:
    return np.asarray(array, np.float64)
