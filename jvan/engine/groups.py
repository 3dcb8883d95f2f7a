"""Which parameters share a weight decay and a learning rate."""

from __future__ import annotations

from typing import NamedTuple

from ..models.van import VAN

LAYERS = 12  # blocks are gathered into as many, as ConvNeXt's fine-tuning does, so that deep networks still learn below


class Parameter(NamedTuple):
    """A learned tensor: its name, the variable, whether it decays, and its share of the learning rate."""

    name: str
    value: object
    decays: bool
    scale: float


def parameters_of(model, layer_decay: float = 1.0) -> list[Parameter]:
    """All that training changes, in the model's order; BatchNorm's running statistics are not among them.

    Vectors and biases do not decay (timm 0.4.12 `add_weight_decay`). A parameter's learning rate is multiplied by
    `layer_decay` once for each layer above it. What belongs to no backbone, such as a head, has the whole rate.
    """
    layers = layers_of(model)
    return [
        Parameter(name, value, value.ndim > 1, layer_decay ** (LAYERS + 1 - layers.get(name, LAYERS + 1)))
        for name, value in model.named_parameters()
        if ".running_" not in name and not value.is_stop_grad()
    ]


def layers_of(model) -> dict[str, int]:
    """Each parameter of the backbones inside `model` -> its layer, under whatever prefix a backbone stands.

    LAYERS is the last block's; with four blocks:

    stem                                          8
    block 1, its stage's LayerNorm                9
    block 2, and the patch embedding before it   10
    block 4, norm4                               12
    the head (not in the dict)                   13
    """
    found = {}
    for prefix, backbone in model.named_modules():
        if isinstance(backbone, VAN):
            count = max(depth for depth, _, _ in backbone.layers())
            for depth, name, module in backbone.layers():
                for below, _ in module.named_parameters():
                    found[".".join(filter(None, (prefix, name, below)))] = _gathered(depth, count)
    return found


def _gathered(depth: int, count: int) -> int:
    """A depth among `count` blocks as one of LAYERS layers; 0 is the stem of a network with as many blocks or more."""
    if count <= LAYERS:
        return LAYERS - count + depth
    return 1 + (depth - 1) * LAYERS // count if depth else 0
