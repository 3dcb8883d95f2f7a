"""Floating-point operations of a VAN, exactly, from its configuration."""

from __future__ import annotations

from ..structure import head, stages, unit
from ..variants import VANConfig

BACKWARD = 2  # a convolution's gradients, of input and weight, cost its forward twice


def flop(config: VANConfig, height: int, width: int, mode: str = "infer") -> int:
    """Operations for one picture, two a multiply-add, of the convolutions and the head; training is three times that."""
    return 2 * multiply_adds(config, height, width) * (1 + BACKWARD if mode == "train" else 1)


def multiply_adds(config: VANConfig, height: int, width: int) -> int:
    """Multiply-adds of the convolutions and the head for one picture of height × width pixels."""
    total = sum(row.multiply_adds for row in head(config.embed_dims[-1], config.num_classes))
    for stage in stages(config):
        # padding kernel // 2 on both sides: the map's size is divided by the stride, rounded up
        height, width = -(-height // stage.stride), -(-width // stage.stride)
        rows = stage.block(unit(stage.chans, config))
        each = sum(row.multiply_adds for row in stage.embedding()) + stage.depth * sum(
            row.multiply_adds for row in rows
        )
        total += height * width * each
    return total
