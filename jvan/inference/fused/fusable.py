"""What the fused network must know of a model's modules, or why it cannot stand in for them."""

from __future__ import annotations

import numpy as np
from jittor import Var, nn

from ...models import layers
from ...models.blocks import CFF, LKA, Attention, Block, DWConv, PatchEmbed
from ...models.van import VAN, VANFeatures
from ...ops.gates import GATES
from ...structure import BATCH_NORM, CONV, DEPTHWISE, LAYER_NORM, POINTWISE, UNIT, Stage, head, lka_rows
from ...structure import LKA as LKA_NAMES
from .plan import Sizes

MOST_TAPS = 64  # a side of the largest depthwise kernel; MOST_TAPS in ops/kernels/block.h
STAGES = range(1, 5)
KNOWN = (
    VAN, VANFeatures, Block, Attention, LKA, CFF, DWConv, PatchEmbed, nn.Identity, nn.ModuleList, layers.BatchNorm, layers.Conv,
    layers.Depthwise, layers.Dropout, layers.DropPath, layers.LayerNorm, layers.Linear, layers.Pointwise,
)  # fmt: skip
KINDS = {
    POINTWISE: layers.Pointwise, DEPTHWISE: layers.Depthwise, CONV: layers.Conv, BATCH_NORM: layers.BatchNorm, LAYER_NORM: layers.LayerNorm,
}  # fmt: skip
HOLDERS = {  # of a block's layers
    "": Block, "attn": Attention, UNIT: LKA, "mlp": CFF, "mlp.dwconv": DWConv, "mlp.drop": layers.Dropout, "drop_path": layers.DropPath,
}  # fmt: skip
SET_ON_MODELS = {"metadata"}  # the one attribute of a class that jvan gives to a module as well
HOOKS = {"__fhook__", "__fhook2__"}  # Jittor's forward hooks; a fused module is never called


class NotFusable(Exception):
    """The model has a part that the fused network does not compute."""


def sizes_of(model) -> Sizes:
    """The sizes of a VAN whose blocks are built alike, of layers that the fused network computes; raises NotFusable otherwise."""
    modules = dict(model.named_modules())
    for name, module in modules.items():
        _check_own(name, module)
    _check_kinds(model, modules)
    blocks = [block for i in STAGES for block in getattr(model, f"block{i}")]
    units = (_unit(block.attn.spatial_gating_unit, block.mlp.dwconv.dwconv) for block in blocks)
    dw, dw_d, dilation, pw, gate = _one(units, "its blocks' attentions differ")
    eps = _one((getattr(model, f"norm{i}").eps for i in STAGES), "its LayerNorms have different eps")
    sizes = Sizes(
        in_chans=model.in_chans, classes=0 if isinstance(model.head, nn.Identity) else model.head.weight.shape[0],
        dw=dw, dw_d=dw_d, dilation=dilation, pw=pw, gate=gate, norm_eps=eps,
        stages=_stages(model),
    )  # fmt: skip
    _check_shapes(sizes, _variables(model))
    return sizes


def tensors_of(model) -> dict[str, np.ndarray]:
    """Every tensor by its official name, and beside a BatchNorm's tensors its eps."""
    norms = [(name, module) for name, module in model.named_modules() if isinstance(module, layers.BatchNorm)]
    tensors = {name: value.numpy() for name, value in _variables(model).items()}
    return {**tensors, **{f"{name}.eps": np.float64(module.eps) for name, module in norms}}


def _variables(model) -> dict[str, Var]:
    """Not by state_dict(), which names a tensor once that two modules share."""
    pairs = ((name, *pair) for name, module in model.named_modules() for pair in vars(module).items())
    return {f"{name}.{own}".lstrip("."): value for name, own, value in pairs if isinstance(value, Var)}


def _check_own(name: str, module) -> None:
    """NotFusable for a module of a foreign class, and for one that was given its own method or hook."""
    if type(module) not in KNOWN:
        raise NotFusable(f"{name} is a {type(module).__name__}, a module of another kind")
    for own in vars(module):
        if own in HOOKS or (hasattr(type(module), own) and own not in SET_ON_MODELS):
            raise NotFusable(f"{name or 'the network'} was given its own {own}")


def _check_kinds(model, modules) -> None:
    for name, allowed in _kinds([len(getattr(model, f"block{i}")) for i in STAGES]).items():
        if type(modules.get(name)) not in allowed:
            found = type(modules[name]).__name__ if name in modules else "missing"
            raise NotFusable(f"{name} is {found}, not {allowed[0].__name__}")


def _kinds(depths: list[int]) -> dict[str, tuple[type, ...]]:
    """What each module of a network may be; a part of the attention may be left out."""
    kinds = {"head": (layers.Linear, nn.Identity)}
    for i, depth in zip(STAGES, depths):
        stage = Stage(i, 1, 1, depth, 1, 1, 1)
        kinds[f"patch_embed{i}"], kinds[f"block{i}"] = (PatchEmbed,), (nn.ModuleList,)
        for j in range(depth):
            kinds.update({f"block{i}.{j}.{holder}".rstrip("."): (kind,) for holder, kind in HOLDERS.items()})
        for row in stage.layers(lka_rows(1, 1, 1, 1)):
            if row.kind in KINDS:
                kinds[row.name] = (KINDS[row.kind], nn.Identity) if f".{UNIT}." in row.name else (KINDS[row.kind],)
    return kinds


def _stages(model) -> tuple[Stage, ...]:
    stages, incoming = [], model.in_chans
    for i in STAGES:
        stages.append(_stage(model, i, incoming))
        incoming = stages[-1].chans
    return tuple(stages)


def _stage(model, i: int, incoming: int) -> Stage:
    embed, blocks = getattr(model, f"patch_embed{i}").proj, getattr(model, f"block{i}")
    chans, _, kernel, _ = embed.weight.shape
    if embed.padding != kernel // 2:
        raise NotFusable(f"patch_embed{i}.proj is padded by {embed.padding}, not by {kernel // 2}")
    hidden = _one(
        (block.mlp.fc1.weight.shape[0] for block in blocks), f"stage {i}'s blocks have different hidden widths"
    )
    stride = _whole(embed.stride, f"patch_embed{i}.proj's stride")
    return Stage(i, incoming, chans, len(blocks), hidden, kernel, stride)


def _unit(lka: LKA, dwconv: layers.Depthwise) -> tuple:
    if lka.gate not in GATES:
        raise NotFusable(f'the gate of its attention is "{lka.gate}"')
    dw, dw_d, pw = (getattr(lka, name) for name in LKA_NAMES.values())
    sides = [0 if isinstance(part, nn.Identity) else part.weight.shape[2] for part in (dw, dw_d)]
    if max(sides) > MOST_TAPS:
        raise NotFusable(f"its depthwise kernels are {max(sides)} wide, more than {MOST_TAPS}")
    for name, side, layer in ((f"attention's {LKA_NAMES['dw']}", sides[0], dw), ("feed-forward's dwconv", 3, dwconv)):
        if side and layer.dilation != 1:
            raise NotFusable(f"the dilation of its {name} is {layer.dilation}, not 1")
    dilation = _whole(dw_d.dilation, f"the dilation of its attention's {LKA_NAMES['dw_d']}") if sides[1] else 1
    return (*sides, dilation, not isinstance(pw, nn.Identity), lka.gate)


def _check_shapes(sizes: Sizes, variables: dict[str, Var]) -> None:
    for name, shape in _shapes(sizes).items():
        if name not in variables:
            raise NotFusable(f"there is no tensor {name}")
        if tuple(variables[name].shape) != shape:
            raise NotFusable(f"{name} is {tuple(variables[name].shape)}, not {shape}")


def _shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The name and the shape of every tensor that the fused network takes."""
    rows = [row for stage in sizes.stages for row in stage.layers(sizes.unit(stage.chans))]
    rows += head(sizes.stages[-1].chans, sizes.classes)
    return {name: shape for row in rows for name, shape in row.tensors().items()}


def _one(values, differ: str):
    found = set(values)
    if len(found) != 1:
        raise NotFusable(f"{differ}: {sorted(found)}")
    return found.pop()


def _whole(value, what: str) -> int:
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise NotFusable(f"{what} is {value!r}, no positive integer")
    return int(value)
