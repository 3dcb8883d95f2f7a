"""The network and its layers in float64, by numpy alone: what operators, kernels and folded weights are compared with.

Maps are channels-last, (N, H, W, C); weights have PyTorch's shapes, tensors their official names.
"""

from __future__ import annotations

import math

import numpy as np

from jvan import structure

BATCH_NORM_EPS = 1e-5  # PyTorch's, which the official code keeps

erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu(x):
    return x * (erf(x / np.sqrt(2)) / 2 + 0.5)


def conv(x, weight, bias, stride=1, padding=0):
    """One tap of the kernel at a time."""
    size = weight.shape[2]
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    out_h, out_w = ((extent + 2 * padding - size) // stride + 1 for extent in x.shape[1:3])
    total = bias
    for i in range(size):
        for j in range(size):
            tap = padded[:, i : i + (out_h - 1) * stride + 1 : stride, j : j + (out_w - 1) * stride + 1 : stride]
            total = total + tap @ weight[:, :, i, j].T
    return total


def depthwise(x, weight, bias, dilation=1):
    """It keeps the map's size; of an uneven padding the larger half is below and on the right."""
    sides, (height, width) = weight.shape[2:], x.shape[1:3]
    reaches = [dilation * (side - 1) for side in sides]
    padded = np.pad(x, ((0, 0), *((reach // 2, reach - reach // 2) for reach in reaches), (0, 0)))
    total = np.zeros_like(x) + bias
    for i in range(sides[0]):
        for j in range(sides[1]):
            total += padded[:, i * dilation :, j * dilation :][:, :height, :width] * weight[:, 0, i, j]
    return total


def pointwise(x, weight, bias):
    return x @ weight.reshape(weight.shape[:2]).T + bias


def batch_norm(x, weight, bias, eps=BATCH_NORM_EPS):
    """By the batch's own statistics."""
    axes = tuple(range(x.ndim - 1))
    return normalised(x, x.mean(axes), x.var(axes), weight, bias, eps)


def layer_norm(x, weight, bias, eps=1e-5):
    return normalised(x, x.mean(-1, keepdims=True), x.var(-1, keepdims=True), weight, bias, eps)


def normalised(x, mean, var, weight, bias, eps=BATCH_NORM_EPS):
    return (x - mean) / np.sqrt(var + eps) * weight + bias


def lka(u, t, dilation=3, gate="multiply"):
    """Large-kernel attention on u; t: the tensors of its layers, where a part that is left out has none."""
    a = u
    if "conv0.weight" in t:
        a = depthwise(a, *_layer(t, "conv0"))
    if "conv_spatial.weight" in t:
        a = depthwise(a, *_layer(t, "conv_spatial"), dilation)
    if "conv1.weight" in t:
        a = pointwise(a, *_layer(t, "conv1"))
    return gated(u, a, gate)


def gated(u, a, gate):
    return {"multiply": u * a, "add": u + a, "none": a, "sigmoid": u / (1 + np.exp(-a))}[gate]


def unit(u, t, rows, gate="multiply"):
    """Any attention unit on u, from its rows (jvan.structure); t: the tensors of its layers."""
    found, a = {"": u}, u
    for row in rows:
        x = sum(found[name] for name in row.of) if row.of else a
        layer = _layer(t, row.name)
        a = found[row.name] = depthwise(x, *layer, row.dilation) if row.kind == "depthwise" else pointwise(x, *layer)
    return gated(u, a, gate)


def block(x, t, attention=lka, training=False):
    """Both shortcuts of the attention, layer scales, exact GELU: the paper's figure 3; attention(u, tensors): its unit."""
    y = _norm(x, t, "norm1", training)
    u = gelu(pointwise(y, *_layer(t, "attn.proj_1")))
    a = attention(u, section(t, "attn.spatial_gating_unit."))
    x = x + t["layer_scale_1"] * (pointwise(a, *_layer(t, "attn.proj_2")) + y)
    hidden = pointwise(_norm(x, t, "norm2", training), *_layer(t, "mlp.fc1"))
    hidden = gelu(depthwise(hidden, *_layer(t, "mlp.dwconv.dwconv")))
    return x + t["layer_scale_2"] * pointwise(hidden, *_layer(t, "mlp.fc2"))


def patch_embed(x, t, stride, training=False):
    weight, bias = _layer(t, "proj")
    return _norm(conv(x, weight, bias, stride, weight.shape[2] // 2), t, "norm", training)


def network(x, tensors, config, training=False):
    """x: (N, C, H, W) -> logits, or pooled features where there is no head, and the four stages' maps (N, C, h, w).

    config: a VANConfig; training: BatchNorms take the batch's own statistics, and nothing is dropped
    """
    tensors = {name: np.asarray(value, np.float64) for name, value in tensors.items()}
    x, maps = np.moveaxis(np.asarray(x, np.float64), 1, -1), []
    for i, depth in enumerate(config.depths, start=1):
        x = patch_embed(x, section(tensors, f"patch_embed{i}."), config.stem_stride if i == 1 else 2, training)
        for j in range(depth):
            x = block(x, section(tensors, f"block{i}.{j}."), attention_of(config, x.shape[-1]), training)
        x = layer_norm(x, *_layer(tensors, f"norm{i}"), config.norm_eps)
        maps.append(np.moveaxis(x, -1, 1))
    pooled = x.mean((1, 2))
    return (pointwise(pooled, *_layer(tensors, "head")) if config.num_classes else pooled), maps


def attention_of(config, chans):
    """The published unit as it is written above, any other from its rows."""
    if config.attention == "lka":
        return lambda u, t: lka(u, t, config.dilation, config.gate)
    return lambda u, t: unit(u, t, structure.unit(chans, config), config.gate)


def section(tensors, prefix):
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _layer(t, name):
    return t[f"{name}.weight"], t[f"{name}.bias"]


def _norm(x, t, name, training):
    if training:
        return batch_norm(x, *_layer(t, name))
    return normalised(x, t[f"{name}.running_mean"], t[f"{name}.running_var"], *_layer(t, name))
