"""What the fused network must know of a model's modules, or why it cannot stand in for them."""

from __future__ import annotations

from jittor import nn

from ..models import layers
from ..models.blocks import CFF, LKA, Attention, Block
from ..models.van import VAN, VANFeatures
from .plan import GATES, Sizes, StageSizes

MOST_TAPS = 64  # a side of the largest depthwise kernel; MOST_TAPS in ops/kernels/block.h
KNOWN = (
    VAN, VANFeatures, Block, Attention, LKA, CFF, nn.Identity, layers.Dropout, nn.ModuleList, layers.BatchNorm, layers.Conv,
    layers.Depthwise, layers.DropPath, layers.LayerNorm, layers.Linear, layers.Pointwise,
)  # fmt: skip


class Unknown(Exception):
    """The model has a part that the fused network does not compute."""


def sizes_of(model) -> Sizes:
    """The sizes of a VAN whose every block is built alike; raises Unknown otherwise."""
    for name, module in model.named_modules():
        if not type(module).__module__.startswith(layers.__package__) and type(module) not in KNOWN:
            raise Unknown(f"{name} is a {type(module).__name__}, a module of another kind")
    stages = tuple(_stage(model, i) for i in range(1, 5))
    units = {_unit(block.attn.spatial_gating_unit) for i in range(1, 5) for block in getattr(model, f"block{i}")}
    if len(units) != 1:
        raise Unknown(f"its blocks' attentions differ: {sorted(units)}")
    local, remote, dilation, pointwise, gate = units.pop()
    eps = {getattr(model, f"norm{i}").eps for i in range(1, 5)}
    if len(eps) != 1:
        raise Unknown(f"its LayerNorms have different eps: {sorted(eps)}")
    return Sizes(
        in_chans=model.in_chans, classes=model.num_classes, local=local, remote=remote, dilation=dilation,
        pointwise=pointwise, gate=gate, norm_eps=eps.pop(), stages=stages,
    )  # fmt: skip


def _stage(model, i: int) -> StageSizes:
    embed, blocks = getattr(model, f"patch_embed{i}").proj, getattr(model, f"block{i}")
    hidden = {block.mlp.fc1.weight.shape[0] for block in blocks}
    if len(hidden) != 1:
        raise Unknown(f"the blocks of stage {i} have different hidden widths: {sorted(hidden)}")
    return StageSizes(
        chans=embed.weight.shape[0],
        depth=len(blocks),
        hidden=hidden.pop(),
        kernel=embed.weight.shape[2],
        stride=embed.stride,
    )


def _unit(lka) -> tuple:
    if type(lka) is not LKA or lka.gate not in GATES:
        raise Unknown(f"its attention is a {type(lka).__name__}")
    sides = [0 if isinstance(part, nn.Identity) else part.weight.shape[2] for part in (lka.conv0, lka.conv_spatial)]
    if max(sides) > MOST_TAPS:
        raise Unknown(f"its depthwise kernels are {max(sides)} wide, more than {MOST_TAPS}")
    dilation = lka.conv_spatial.dilation if sides[1] else 1
    return (*sides, dilation, not isinstance(lka.conv1, nn.Identity), lka.gate)
