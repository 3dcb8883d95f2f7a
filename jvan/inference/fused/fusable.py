"""What the fused network must know of a model's modules, or why it cannot stand in for them."""

from __future__ import annotations

import numpy as np
from jittor import Var, nn

from ...models import layers
from ...models.blocks import CFF, LKA, Attention, Block, DWConv, PatchEmbed
from ...models.van import VAN, VANFeatures
from ...ops.gates import GATES
from .plan import Sizes, StageSizes

MOST_TAPS = 64  # a side of the largest depthwise kernel; MOST_TAPS in ops/kernels/block.h
STAGES = range(1, 5)
UNIT = "attn.spatial_gating_unit"
KNOWN = (
    VAN, VANFeatures, Block, Attention, LKA, CFF, DWConv, PatchEmbed, nn.Identity, nn.ModuleList, layers.BatchNorm, layers.Conv,
    layers.Depthwise, layers.Dropout, layers.DropPath, layers.LayerNorm, layers.Linear, layers.Pointwise,
)  # fmt: skip
PARTS = {  # of a block, and what each may be
    "": (Block,), "norm1": (layers.BatchNorm,), "norm2": (layers.BatchNorm,), "drop_path": (layers.DropPath,),
    "attn": (Attention,), "attn.proj_1": (layers.Pointwise,), "attn.proj_2": (layers.Pointwise,),
    UNIT: (LKA,), f"{UNIT}.conv0": (layers.Depthwise, nn.Identity), f"{UNIT}.conv1": (layers.Pointwise, nn.Identity),
    f"{UNIT}.conv_spatial": (layers.Depthwise, nn.Identity), "mlp": (CFF,), "mlp.fc1": (layers.Pointwise,),
    "mlp.dwconv": (DWConv,), "mlp.dwconv.dwconv": (layers.Depthwise,), "mlp.fc2": (layers.Pointwise,),
    "mlp.drop": (layers.Dropout,),
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
        stages=tuple(_stage(model, i) for i in STAGES),
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
    """NotFusable for a module of a foreign class, and for one that was given a method or a hook of its own."""
    if type(module) not in KNOWN:
        raise NotFusable(f"{name} is a {type(module).__name__}, a module of another kind")
    for own in vars(module):
        if own in HOOKS or (hasattr(type(module), own) and own not in SET_ON_MODELS):
            raise NotFusable(f"{name or 'the network'} was given its own {own}")


def _check_kinds(model, modules) -> None:
    kinds = {"head": (layers.Linear, nn.Identity)}
    for i in STAGES:
        kinds[f"patch_embed{i}"], kinds[f"norm{i}"], kinds[f"block{i}"] = (PatchEmbed,), (layers.LayerNorm,), (nn.ModuleList,)  # fmt: skip
        kinds[f"patch_embed{i}.proj"], kinds[f"patch_embed{i}.norm"] = (layers.Conv,), (layers.BatchNorm,)
        for j in range(len(getattr(model, f"block{i}"))):
            kinds.update({f"block{i}.{j}.{part}".rstrip("."): allowed for part, allowed in PARTS.items()})
    for name, allowed in kinds.items():
        if type(modules.get(name)) not in allowed:
            found = type(modules[name]).__name__ if name in modules else "missing"
            raise NotFusable(f"{name} is {found}, not {allowed[0].__name__}")


def _stage(model, i: int) -> StageSizes:
    embed, blocks = getattr(model, f"patch_embed{i}").proj, getattr(model, f"block{i}")
    chans, _, kernel, _ = embed.weight.shape
    if embed.padding != kernel // 2:
        raise NotFusable(f"patch_embed{i}.proj is padded by {embed.padding}, not by {kernel // 2}")
    hidden = _one(
        (block.mlp.fc1.weight.shape[0] for block in blocks), f"stage {i}'s blocks have different hidden widths"
    )
    stride = _whole(embed.stride, f"patch_embed{i}.proj's stride")
    return StageSizes(chans=chans, depth=len(blocks), hidden=hidden, kernel=kernel, stride=stride)


def _unit(lka: LKA, dwconv: layers.Depthwise) -> tuple:
    if lka.gate not in GATES:
        raise NotFusable(f'the gate of its attention is "{lka.gate}"')
    sides = [0 if isinstance(part, nn.Identity) else part.weight.shape[2] for part in (lka.conv0, lka.conv_spatial)]
    if max(sides) > MOST_TAPS:
        raise NotFusable(f"its depthwise kernels are {max(sides)} wide, more than {MOST_TAPS}")
    for name, side, layer in (("attention's conv0", sides[0], lka.conv0), ("feed-forward's dwconv", 3, dwconv)):
        if side and layer.dilation != 1:
            raise NotFusable(f"the dilation of its {name} is {layer.dilation}, not 1")
    dilation = _whole(lka.conv_spatial.dilation, "the dilation of its attention's conv_spatial") if sides[1] else 1
    return (*sides, dilation, not isinstance(lka.conv1, nn.Identity), lka.gate)


def _check_shapes(sizes: Sizes, variables: dict[str, Var]) -> None:
    for name, shape in _shapes(sizes):
        if name not in variables:
            raise NotFusable(f"there is no tensor {name}")
        if tuple(variables[name].shape) != shape:
            raise NotFusable(f"{name} is {tuple(variables[name].shape)}, not {shape}")


def _shapes(sizes: Sizes):
    """Yield the name and the shape of every tensor that the fused network takes."""
    incoming = sizes.in_chans
    for i, stage in enumerate(sizes.stages, start=1):
        chans = stage.chans
        yield from _layer(f"patch_embed{i}.proj", chans, incoming, stage.kernel, stage.kernel)
        yield from _batch_norm(f"patch_embed{i}.norm", chans)
        for j in range(stage.depth):
            yield from _block(f"block{i}.{j}", chans, stage.hidden, sizes)
        yield from _layer(f"norm{i}", chans)
        incoming = chans
    if sizes.classes:
        yield from _layer("head", sizes.classes, incoming)


def _block(name: str, chans: int, hidden: int, sizes: Sizes):
    for i in (1, 2):
        yield from _batch_norm(f"{name}.norm{i}", chans)
        yield f"{name}.layer_scale_{i}", (chans,)
        yield from _layer(f"{name}.attn.proj_{i}", chans, chans, 1, 1)
    for part, side in (("conv0", sizes.dw), ("conv_spatial", sizes.dw_d)):
        if side:
            yield from _layer(f"{name}.{UNIT}.{part}", chans, 1, side, side)
    if sizes.pw:
        yield from _layer(f"{name}.{UNIT}.conv1", chans, chans, 1, 1)
    yield from _layer(f"{name}.mlp.fc1", hidden, chans, 1, 1)
    yield from _layer(f"{name}.mlp.dwconv.dwconv", hidden, 1, 3, 3)
    yield from _layer(f"{name}.mlp.fc2", chans, hidden, 1, 1)


def _layer(name: str, *shape: int):
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _batch_norm(name: str, chans: int):
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (chans,)


def _one(values, differ: str):
    found = set(values)
    if len(found) != 1:
        raise NotFusable(f"{differ}: {sorted(found)}")
    return found.pop()


def _whole(value, what: str) -> int:
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise NotFusable(f"{what} is {value!r}, no positive integer")
    return int(value)
