"""A VAN's configuration from the names and shapes of its tensors, and the shapes that a configuration wants."""

from __future__ import annotations

import re
from collections import defaultdict

from ...errors import CheckpointError
from ...structure import LKA, UNIT, UNITS, lka_kernels, network
from ...variants import VARIANTS, VANConfig, variant_config
from .rename import listed

_UNIT = f"block1.0.{UNIT}"
# The paper's Table 6: (d, the dilated kernel's size) -> K. Its K = 7, d = 2 has a 4x4 dilated kernel.
_PAPER_KERNELS = {(3, 7): 21, (3, 5): 14, (4, 7): 28, (2, 4): 7}
_DEFAULT_KERNEL = (21, 3)
# What OpenMMLab's README calls VAN-B6 (283.9 M parameters); code and paper have 384 for the third width.
_README_B6 = ((96, 192, 480, 768), (6, 6, 90, 6))


def parameter_shapes(config: VANConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of the network's state, in the official order: parameters and BatchNorm's running statistics.

    `num_batches_tracked` is not among them: inference does not read it and Jittor does not have it.
    """
    return {name: shape for layer in network(config) for name, shape in layer.tensors().items()}


def infer_config(shapes: dict[str, tuple[int, ...]]) -> tuple[VANConfig, list[str]]:
    """The configuration that these official names and shapes are of, and notes on what they leave open.

    The stem's stride, the attention's gate and LayerNorm's eps leave no trace in the shapes and keep their defaults.
    Raises CheckpointError where no VAN has such tensors, listing what is missing, unexpected or misshapen.
    """
    depths = _depths(shapes)
    stems = [_shape(shapes, f"patch_embed{stage}.proj.weight", 4) for stage in range(1, 5)]
    widths = tuple(stem[0] for stem in stems)
    hidden = [_shape(shapes, f"block{stage}.0.mlp.fc1.weight", 4)[0] for stage in range(1, 5)]
    for stage, (inner, width) in enumerate(zip(hidden, widths), start=1):
        if not width or not inner or inner % width:
            raise CheckpointError(f"stage {stage}'s MLP widens {width} channels to {inner}, which is no whole ratio")
    unit, notes = _attention(shapes)
    config = _config(
        embed_dims=widths,
        depths=depths,
        mlp_ratios=tuple(inner // width for inner, width in zip(hidden, widths)),
        num_classes=_shape(shapes, "head.weight", 2)[0] if "head.weight" in shapes else 0,
        in_chans=stems[0][1],
        **unit,
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
        traces = ("embed_dims", "depths", "mlp_ratios", "num_classes", "in_chans", "attention", "lka_parts")
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
    if config.attention != "lka":
        return ()
    dw, dw_d = lka_kernels(config.kernel_size, config.dilation)
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


def _attention(shapes) -> tuple[dict, list[str]]:
    """What the first block's attention unit tells of the configuration, and notes on what it leaves open."""
    present = {name[len(_UNIT) + 1 :].partition(".")[0] for name in shapes if name.startswith(f"{_UNIT}.")}
    for attention, rows in UNITS.items():
        if attention != "lka" and {row.name for row in rows(1, variant_config("van_b0"))} == present:
            return {"attention": attention}, []
    return _kernels(shapes)


def _kernels(shapes) -> tuple[dict, list[str]]:
    """`kernel_size`, `dilation` and `lka_parts`; K is known only up to d, since the kernel has ceil(K/d) taps."""
    names = {part: f"{_UNIT}.{conv}" for part, conv in LKA.items()}
    present = [part for part, name in names.items() if f"{name}.weight" in shapes]
    kernel, dilation = _DEFAULT_KERNEL
    notes = []
    taps = _square(shapes, f"{names['dw_d']}.weight") if "dw_d" in present else None
    if "dw" in present:
        size = _square(shapes, f"{names['dw']}.weight")
        if size % 2 == 0:
            raise CheckpointError(f"{names['dw']} is {size}x{size}; the LKA's depthwise kernel is 2d-1 wide, thus odd")
        dilation = (size + 1) // 2
    elif taps:
        dilation = next((d for (d, known), _ in _PAPER_KERNELS.items() if known == taps), dilation)
        notes.append(f"without the depthwise kernel the dilation leaves no trace: {dilation} is assumed")
    if taps and taps % 2 == 0 and dilation % 2:
        raise CheckpointError(
            f"{names['dw_d']} is {taps}x{taps} with dilation {dilation}, which cannot be padded evenly; no VAN has that"
        )
    if taps:
        kernel = _PAPER_KERNELS.get((dilation, taps), taps * dilation)
        if (dilation, taps) not in _PAPER_KERNELS:
            notes.append(f"K is assumed to be {kernel}; {(taps - 1) * dilation + 1} to {kernel} give the same network")
    elif dilation != _DEFAULT_KERNEL[1]:
        kernel = next((k for (d, _), k in _PAPER_KERNELS.items() if d == dilation), dilation * 7)
    return {"kernel_size": kernel, "dilation": dilation, "lka_parts": tuple(present)}, notes


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
