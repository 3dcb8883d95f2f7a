"""VAN in PyTorch under the official parameter names, for the benchmark's peers: one class a part, without options.

Written from the paper (arXiv 2202.09741) and jvan's configuration; every run compares its outputs with jvan's.
"""

from __future__ import annotations

import torch
from torch import nn


class Unit(nn.Module):
    """An attention unit of the `layers` in jvan's table: each takes the sum of those that it is `of`, or the one before it."""

    def __init__(self, layers: list[dict], gate: str):
        super().__init__()
        self.gate, self.of = gate, {layer["name"]: layer["of"] for layer in layers}
        for layer in layers:
            setattr(self, layer["name"], convolution(**layer))

    def forward(self, x):
        found = {"": x}
        mask = x
        for name, of in self.of.items():
            mask = found[name] = getattr(self, name)(sum(found[each] for each in of) if of else mask)
        if self.gate == "none":
            return mask
        if self.gate == "add":
            return x + mask
        return x * (mask.sigmoid() if self.gate == "sigmoid" else mask)


class Attention(nn.Module):
    def __init__(self, dim: int, unit: list[dict], gate: str):
        super().__init__()
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.activation = nn.GELU()
        self.spatial_gating_unit = Unit(unit, gate)
        self.proj_2 = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        return self.proj_2(self.spatial_gating_unit(self.activation(self.proj_1(x)))) + x


class CFF(nn.Module):
    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.dwconv = nn.Module()
        self.dwconv.dwconv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, x):
        return self.fc2(self.act(self.dwconv.dwconv(self.fc1(x))))


class Block(nn.Module):
    def __init__(self, dim: int, hidden_dim: int, unit: list[dict], gate: str):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = Attention(dim, unit, gate)
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = CFF(dim, hidden_dim)
        self.layer_scale_1 = nn.Parameter(torch.full((dim,), 1e-2))
        self.layer_scale_2 = nn.Parameter(torch.full((dim,), 1e-2))

    def forward(self, x):
        x = x + self.layer_scale_1[:, None, None] * self.attn(self.norm1(x))
        return x + self.layer_scale_2[:, None, None] * self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, in_chans: int, dim: int, kernel_size: int, stride: int):
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, kernel_size, stride, kernel_size // 2)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x):
        return self.norm(self.proj(x))


class VAN(nn.Module):
    """`config` is jvan.variants.VANConfig.to_dict(), `stages` are jvan.structure's, as JSON has them; (N, C, H, W) -> logits.

    A stage's output is NCHW in memory, as the official code makes it, or stays channels-last.
    """

    def __init__(self, config: dict, stages: list[dict], channels_last: bool = False):
        super().__init__()
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        for stage in stages:
            i, dim = stage["number"], stage["chans"]
            setattr(self, f"patch_embed{i}", PatchEmbed(stage["incoming"], dim, stage["kernel"], stage["stride"]))
            blocks = (Block(dim, stage["hidden"], stage["unit"], config["gate"]) for _ in range(stage["depth"]))
            setattr(self, f"block{i}", nn.Sequential(*blocks))
            setattr(self, f"norm{i}", nn.LayerNorm(dim, config["norm_eps"]))
        self.head = nn.Linear(dim, config["num_classes"]) if config["num_classes"] else nn.Identity()

    def forward(self, x):
        for i in range(1, 5):
            x = getattr(self, f"block{i}")(getattr(self, f"patch_embed{i}")(x))
            x = getattr(self, f"norm{i}")(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            x = x.contiguous(memory_format=self.layout)
        return self.head(x.mean((2, 3)))


def convolution(name, kind, inputs, outputs, kernel, dilation, of) -> nn.Conv2d:
    """A layer of jvan's table, padded so that the map keeps its size."""
    padding = tuple(dilation * (side - 1) // 2 for side in kernel)
    groups = inputs if kind == "depthwise" else 1
    return nn.Conv2d(inputs, outputs, tuple(kernel), padding=padding, dilation=dilation, groups=groups)
