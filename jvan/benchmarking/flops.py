"""Floating-point operations of a VAN, exactly, from its configuration."""

from __future__ import annotations

from ..checkpoints.names.architecture import lka_kernels
from ..variants import VANConfig

BACKWARD = 2  # a convolution's gradients, of input and weight, cost its forward twice


def flop(config: VANConfig, height: int, width: int, mode: str = "infer") -> int:
    """Operations for one picture, two a multiply-add, of the convolutions and the head; training is three times that."""
    return 2 * multiply_adds(config, height, width) * (1 + BACKWARD if mode == "train" else 1)


def multiply_adds(config: VANConfig, height: int, width: int) -> int:
    """Multiply-adds of the convolutions and the head for one picture of height × width pixels."""
    total, chans, stride, patch = 0, config.in_chans, config.stem_stride, 7
    for dim, depth, ratio in zip(config.embed_dims, config.depths, config.mlp_ratios):
        # padding patch // 2 on both sides: the map's size is divided by the stride, rounded up
        height, width = -(-height // stride), -(-width // stride)
        total += height * width * (patch * patch * chans * dim + depth * _block(config, dim, dim * ratio))
        chans, stride, patch = dim, 2, 3
    return total + chans * config.num_classes


def _block(config: VANConfig, dim: int, hidden: int) -> int:
    """Multiply-adds of a block for one pixel."""
    local, dilated = lka_kernels(config)
    lka = {"dw": local**2 * dim, "dw_d": dilated**2 * dim, "pw": dim * dim}
    attention = 2 * dim * dim + sum(lka[part] for part in config.lka_parts)
    return attention + 2 * dim * hidden + 9 * hidden
