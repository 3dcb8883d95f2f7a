"""Which parameters share a weight decay and a learning rate."""

from __future__ import annotations

import re
from typing import NamedTuple

LAYERS = 12  # blocks are gathered into as many, as ConvNeXt's fine-tuning does, so that deep networks still learn below


class Parameter(NamedTuple):
    """A learned tensor: its name, the variable, whether it decays, and its share of the learning rate."""

    name: str
    value: object
    decays: bool
    scale: float


def parameters_of(model, layer_decay: float = 1.0) -> list[Parameter]:
    """All that training changes, in the model's order; BatchNorm's running statistics are not among them.

    Vectors and biases do not decay (timm 0.4.12 `add_weight_decay`). A parameter's learning rate is
    multiplied by `layer_decay` once for each layer above it; the head's is whole.
    """
    depths = [len(getattr(model, f"block{stage}")) for stage in range(1, 5)]
    return [
        Parameter(
            name,
            value,
            value.ndim > 1 and not name.endswith(".bias"),
            layer_decay ** (LAYERS + 1 - layer_of(name, depths)),
        )
        for name, value in model.named_parameters()
        if ".running_" not in name and not value.is_stop_grad()
    ]


def layer_of(name: str, depths: list[int]) -> int:
    """LAYERS + 1 for the head, LAYERS for the last block, down to the stem; norms go with the block before, patches with the one after."""
    found = re.match(r"(patch_embed|block|norm)(\d)(?:\.(\d+))?", name)
    if not found:
        return LAYERS + 1
    kind, stage, block = found[1], int(found[2]), int(found[3] or 0)
    if kind == "patch_embed" and stage == 1:
        return max(0, LAYERS - sum(depths))
    before = sum(depths[: stage - 1])
    index = before + {"patch_embed": 0, "block": block, "norm": depths[stage - 1] - 1}[kind]
    return 1 + index * LAYERS // sum(depths) if sum(depths) > LAYERS else LAYERS + 1 - sum(depths) + index
