"""A VAN's configuration from the names and shapes of its tensors, and the shapes that a configuration wants."""

from __future__ import annotations

import re
from collections import defaultdict

from ...errors import CheckpointError
from ...variants import LKA_PARTS, VARIANTS, VANConfig
from .rename import listed

_PARTS = dict(zip(("conv0", "conv_spatial", "conv1"), LKA_PARTS))
# The paper's Table 6: (d, the dilated kernel's size) -> K. Its K = 7, d = 2 has a 4x4 dilated kernel.
_PAPER_KERNELS = {(3, 7): 21, (3, 5): 14, (4, 7): 28, (2, 4): 7}
_DEFAULT_KERNEL = (21, 3)
# What OpenMMLab's README calls VAN-B6 (283.9 M parameters); code and paper have 384 for the third width.
_README_B6 = ((96, 192, 480, 768), (6, 6, 90, 6))


def parameter_shapes(config: VANConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of the network's state, in the official order: parameters and BatchNorm's running statistics.

    `num_batches_tracked` is not among them: inference does not read it and Jittor does not have it.
    """
    shapes, width_before = {}, config.in_chans
    for stage, (width, depth) in enumerate(zip(config.embed_dims, config.depths), start=1):
        patch = 7 if stage == 1 else 3
        shapes.update(_conv(f"patch_embed{stage}.proj", width, width_before, patch))
        shapes.update(_batch_norm(f"patch_embed{stage}.norm", width))
        for block in range(depth):
            shapes.update(_block(f"block{stage}.{block}", width, width * config.mlp_ratios[stage - 1], config))
        shapes.update(_affine(f"norm{stage}", width))
        width_before = width
    if config.num_classes:
        shapes["head.weight"] = (config.num_classes, width_before)
        shapes["head.bias"] = (config.num_classes,)
    return shapes


def lka_kernels(config: VANConfig) -> tuple[int, int]:
    """Sizes of the depthwise and the dilated depthwise kernel: 2d-1 and ceil(K/d) (paper, eq. 3)."""
    return 2 * config.dilation - 1, -(-config.kernel_size // config.dilation)


def infer_config(shapes: dict[str, tuple[int, ...]]) -> tuple[VANConfig, list[str]]:
    """The configuration that these official names and shapes are of, and notes on what they leave open.

    The stem's stride, the gate and LayerNorm's eps leave no trace in the shapes and keep their defaults.
    Raises CheckpointError where no VAN has such tensors, listing what is missing, unexpected or misshapen.
    """
    depths = _depths(shapes)
    stems = [_shape(shapes, f"patch_embed{stage}.proj.weight", 4) for stage in range(1, 5)]
    widths = tuple(stem[0] for stem in stems)
    hidden = [_shape(shapes, f"block{stage}.0.mlp.fc1.weight", 4)[0] for stage in range(1, 5)]
    for stage, (inner, width) in enumerate(zip(hidden, widths), start=1):
        if not width or not inner or inner % width:
            raise CheckpointError(f"stage {stage}'s MLP widens {width} channels to {inner}, which is no whole ratio")
    kernels, notes = _kernels(shapes)
    config = _config(
        embed_dims=widths,
        depths=depths,
        mlp_ratios=tuple(inner // width for inner, width in zip(hidden, widths)),
        num_classes=_shape(shapes, "head.weight", 2)[0] if "head.weight" in shapes else 0,
        in_chans=stems[0][1],
        **kernels,
    )
    check_shapes(shapes, config)
    if (config.embed_dims, config.depths) == _README_B6:
        notes.append("widths 96, 192, 480, 768 are those of OpenMMLab's README for B6; the paper's VAN-B6 has 384")
    return config, notes


def check_shapes(shapes: dict[str, tuple[int, ...]], config: VANConfig) -> None:
    """CheckpointError unless `shapes` are exactly those of `config`."""
    wanted = parameter_shapes(config)
    missing = [name for name in wanted if name not in shapes]
    unexpected = [name for name in shapes if name not in wanted]
    wrong = [f"{n} {shapes[n]} instead of {s}" for n, s in wanted.items() if n in shapes and tuple(shapes[n]) != s]
    problems = []
    for what, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", wrong)):
        if names:
            problems.append(f"{len(names)} {what}: {listed(names)}")
    if problems:
        raise CheckpointError(
            f"the tensors are not a whole {_title(config)}: {'; '.join(problems)}; save the whole state dict again"
        )


def settle_config(inferred: VANConfig, known: VANConfig | None, arch: str | None) -> VANConfig:
    """The configuration to use: the metadata's where there are some, if it agrees with the shapes and with `arch`."""
    if known is not None:
        traces = ("embed_dims", "depths", "mlp_ratios", "num_classes", "in_chans", "lka_parts")
        pairs = [(name, getattr(known, name), getattr(inferred, name)) for name in traces]
        pairs.append(("LKA kernels", _lka_shapes(known), _lka_shapes(inferred)))
        wrong = [f"{name} {said} against {shown}" for name, said, shown in pairs if said != shown]
        if wrong:
            raise CheckpointError(
                f"the file's metadata contradict its tensors: {'; '.join(wrong)}; "
                "the metadata belong to another file: take them away or convert the original again"
            )
    config = known or inferred
    if arch is not None and config.arch != arch:
        raise CheckpointError(f"arch (--arch) says {arch}, but the tensors are those of a {_title(config)}")
    return config


def _lka_shapes(config: VANConfig) -> tuple:
    dw, dw_d = lka_kernels(config)
    return ("dw" in config.lka_parts and dw, "dw_d" in config.lka_parts and dw_d)


def _title(config: VANConfig) -> str:
    if config.arch in VARIANTS:
        return config.arch
    return f"custom VAN (embed_dims {config.embed_dims}, depths {config.depths}, mlp_ratios {config.mlp_ratios})"


def _depths(shapes) -> tuple[int, ...]:
    blocks = defaultdict(set)
    for name in shapes:
        found = re.fullmatch(r"block([1-4])\.([0-9]{1,4})\..+", name)
        if found:
            blocks[int(found[1])].add(int(found[2]))
    for stage in range(1, 5):
        if not blocks[stage]:
            raise CheckpointError(f"no tensor of block{stage} is there; a VAN has four stages")
        gaps = sorted(set(range(max(blocks[stage]))) - blocks[stage])
        if gaps:
            names = [f"block{stage}.{number}" for number in gaps]
            raise CheckpointError(f"blocks are missing before block{stage}.{max(blocks[stage])}: {listed(names)}")
    return tuple(len(blocks[stage]) for stage in range(1, 5))


def _kernels(shapes) -> tuple[dict, list[str]]:
    """`kernel_size`, `dilation` and `lka_parts`; K is known only up to d, since the kernel has ceil(K/d) taps."""
    unit = "block1.0.attn.spatial_gating_unit"
    present = [conv for conv in _PARTS if f"{unit}.{conv}.weight" in shapes]
    kernel, dilation = _DEFAULT_KERNEL
    notes = []
    taps = _square(shapes, f"{unit}.conv_spatial.weight") if "conv_spatial" in present else None
    if "conv0" in present:
        size = _square(shapes, f"{unit}.conv0.weight")
        if size % 2 == 0:
            raise CheckpointError(f"{unit}.conv0 is {size}x{size}; the LKA's depthwise kernel is 2d-1 wide, thus odd")
        dilation = (size + 1) // 2
    elif taps:
        dilation = next((d for (d, known), _ in _PAPER_KERNELS.items() if known == taps), dilation)
        notes.append(f"without the depthwise kernel the dilation leaves no trace: {dilation} is assumed")
    if taps and taps % 2 == 0 and dilation % 2:
        raise CheckpointError(
            f"{unit}.conv_spatial is {taps}x{taps} with dilation {dilation}, which cannot be padded evenly; no VAN has that"
        )
    if taps:
        kernel = _PAPER_KERNELS.get((dilation, taps), taps * dilation)
        if (dilation, taps) not in _PAPER_KERNELS:
            notes.append(f"K is assumed to be {kernel}; {(taps - 1) * dilation + 1} to {kernel} give the same network")
    elif dilation != _DEFAULT_KERNEL[1]:
        kernel = next((k for (d, _), k in _PAPER_KERNELS.items() if d == dilation), dilation * 7)
    return {"kernel_size": kernel, "dilation": dilation, "lka_parts": tuple(_PARTS[conv] for conv in present)}, notes


def _square(shapes, name: str) -> int:
    return _shape(shapes, name, 4)[2]


def _shape(shapes, name: str, dimensions: int) -> tuple[int, ...]:
    if name not in shapes:
        raise CheckpointError(f"{name} is missing, and every VAN has it; save the whole state dict again")
    if len(shapes[name]) != dimensions:
        raise CheckpointError(f"{name} has the shape {tuple(shapes[name])}; it needs {dimensions} dimensions")
    return tuple(shapes[name])


def _config(**values) -> VANConfig:
    try:
        return VANConfig(**values)
    except ValueError as error:
        raise CheckpointError(f"the tensors' shapes make no VAN: {error}") from None


def _block(name: str, width: int, hidden: int, config: VANConfig) -> dict:
    dw, dw_d = lka_kernels(config)
    shapes = {f"{name}.layer_scale_1": (width,), f"{name}.layer_scale_2": (width,)}
    shapes.update(_batch_norm(f"{name}.norm1", width))
    shapes.update(_conv(f"{name}.attn.proj_1", width, width, 1))
    unit = f"{name}.attn.spatial_gating_unit"
    rows = {"conv0": (width, 1, dw), "conv_spatial": (width, 1, dw_d), "conv1": (width, width, 1)}
    for conv, row in rows.items():
        if _PARTS[conv] in config.lka_parts:
            shapes.update(_conv(f"{unit}.{conv}", *row))
    shapes.update(_conv(f"{name}.attn.proj_2", width, width, 1))
    shapes.update(_batch_norm(f"{name}.norm2", width))
    shapes.update(_conv(f"{name}.mlp.fc1", hidden, width, 1))
    shapes.update(_conv(f"{name}.mlp.dwconv.dwconv", hidden, 1, 3))
    shapes.update(_conv(f"{name}.mlp.fc2", width, hidden, 1))
    return shapes


def _conv(name: str, out: int, inputs: int, size: int) -> dict:
    return {f"{name}.weight": (out, inputs, size, size), f"{name}.bias": (out,)}


def _batch_norm(name: str, width: int) -> dict:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}


def _affine(name: str, width: int) -> dict:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
