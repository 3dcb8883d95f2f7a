"""VAN in PyTorch under the official parameter names, for the benchmark's peers: one class a part, no options of its own.

Written from the paper (arXiv 2202.09741) and jvan's configuration; every run compares its outputs with jvan's.
"""

from __future__ import annotations

from math import ceil

import torch
from torch import nn


class LKA(nn.Module):
    def __init__(self, dim: int, config: dict):
        super().__init__()
        parts, dilation = config["lka_parts"], config["dilation"]
        self.gate = config["gate"]
        self.conv0 = depthwise(dim, 2 * dilation - 1) if "dw" in parts else nn.Identity()
        large = ceil(config["kernel_size"] / dilation)
        self.conv_spatial = depthwise(dim, large, dilation) if "dw_d" in parts else nn.Identity()
        self.conv1 = nn.Conv2d(dim, dim, 1) if "pw" in parts else nn.Identity()

    def forward(self, x):
        attention = self.conv1(self.conv_spatial(self.conv0(x)))
        if self.gate == "none":
            return attention
        if self.gate == "add":
            return x + attention
        return x * (attention.sigmoid() if self.gate == "sigmoid" else attention)


class Attention(nn.Module):
    def __init__(self, dim: int, config: dict):
        super().__init__()
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.activation = nn.GELU()
        self.spatial_gating_unit = LKA(dim, config)
        self.proj_2 = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        return self.proj_2(self.spatial_gating_unit(self.activation(self.proj_1(x)))) + x


class CFF(nn.Module):
    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.dwconv = nn.Module()
        self.dwconv.dwconv = depthwise(hidden_dim, 3)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, x):
        return self.fc2(self.act(self.dwconv.dwconv(self.fc1(x))))


class Block(nn.Module):
    def __init__(self, dim: int, mlp_ratio: int, config: dict):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = Attention(dim, config)
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = CFF(dim, dim * mlp_ratio)
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
    """`config` is jvan.variants.VANConfig.to_dict(); (N, C, H, W) -> logits.

    A stage's output is NCHW in memory, as the official code makes it, or stays channels-last.
    """

    def __init__(self, config: dict, channels_last: bool = False):
        super().__init__()
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        previous, stride, kernel_size = config["in_chans"], config["stem_stride"], 7
        stages = zip(config["embed_dims"], config["depths"], config["mlp_ratios"])
        for i, (dim, depth, ratio) in enumerate(stages, start=1):
            setattr(self, f"patch_embed{i}", PatchEmbed(previous, dim, kernel_size, stride))
            setattr(self, f"block{i}", nn.Sequential(*(Block(dim, ratio, config) for _ in range(depth))))
            setattr(self, f"norm{i}", nn.LayerNorm(dim, config["norm_eps"]))
            previous, stride, kernel_size = dim, 2, 3
        self.head = nn.Linear(previous, config["num_classes"]) if config["num_classes"] else nn.Identity()

    def forward(self, x):
        for i in range(1, 5):
            x = getattr(self, f"block{i}")(getattr(self, f"patch_embed{i}")(x))
            x = getattr(self, f"norm{i}")(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            x = x.contiguous(memory_format=self.layout)
        return self.head(x.mean((2, 3)))


def depthwise(dim: int, kernel_size: int, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel_size - 1) // 2
    return nn.Conv2d(dim, dim, kernel_size, padding=padding, dilation=dilation, groups=dim)
