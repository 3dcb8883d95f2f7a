"""What a VAN consists of, written once: each layer's name, kind, channels, kernel and dilation, in a checkpoint's order.

Shapes, names, counting, folding, packing and the benchmark's PyTorch twin are read from these rows. A new attention unit is a row of
UNITS here and a module in models/blocks.py. No Jittor, no numpy.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

# Kinds of layers. Convolutions have a bias; "scale" is a bare tensor of one number a channel.
CONV, POINTWISE, DEPTHWISE, BATCH_NORM, LAYER_NORM, SCALE, LINEAR = KINDS = (
    "conv", "pointwise", "depthwise", "batch_norm", "layer_norm", "scale", "linear",
)  # fmt: skip
CONVOLUTIONS = (CONV, POINTWISE, DEPTHWISE)
UNIT = "attn.spatial_gating_unit"  # where a block's attention unit stands in it
LKA = {"dw": "conv0", "dw_d": "conv_spatial", "pw": "conv1"}  # the paper's parts (eq. 1) and their official names
NORM_TENSORS = {BATCH_NORM: ("weight", "bias", "running_mean", "running_var"), LAYER_NORM: ("weight", "bias")}


class Row(NamedTuple):
    """A layer of the network: `name` below the module that holds it, its kind, and its sizes.

    Of an attention unit's rows `of` names those whose sum is the input, "" for the unit's own; without it, it is the row before.
    """

    name: str
    kind: str
    inputs: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    dilation: int = 1
    of: tuple[str, ...] = ()

    @property
    def weight(self) -> tuple[int, ...]:
        """The shape of its weight, as PyTorch has it."""
        if self.kind == LINEAR:
            return self.outputs, self.inputs
        if self.kind in CONVOLUTIONS:
            return self.outputs, 1 if self.kind == DEPTHWISE else self.inputs, *self.kernel
        return (self.outputs,)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """{name: shape} of its state. BatchNorm's `num_batches_tracked` is left out: nothing reads it and Jittor has none."""
        if self.kind == SCALE:
            return {self.name: self.weight}
        if self.kind in NORM_TENSORS:
            return {f"{self.name}.{tensor}": (self.outputs,) for tensor in NORM_TENSORS[self.kind]}
        return {f"{self.name}.weight": self.weight, f"{self.name}.bias": (self.outputs,)}

    @property
    def multiply_adds(self) -> int:
        """For one pixel of its output; a norm's and a scale's are not counted."""
        return prod(self.weight) if self.kind in (*CONVOLUTIONS, LINEAR) else 0

    def below(self, prefix: str) -> Row:
        return self._replace(name=f"{prefix}.{self.name}")


class Stage(NamedTuple):
    """A stage's sizes: channels that come in and go on, blocks, hidden channels, and its patch embedding's kernel and stride."""

    number: int  # from 1
    incoming: int
    chans: int
    depth: int
    hidden: int
    kernel: int
    stride: int

    def embedding(self) -> tuple[Row, Row]:
        """The patch embedding."""
        proj = Row("proj", CONV, self.incoming, self.chans, (self.kernel, self.kernel))
        return tuple(
            row.below(f"patch_embed{self.number}") for row in (proj, Row("norm", BATCH_NORM, *[self.chans] * 2))
        )

    def block(self, unit: tuple[Row, ...]) -> Iterator[Row]:
        """One of its blocks, whose attention unit has the rows `unit`."""
        return block(self.chans, self.hidden, unit)

    def layers(self, unit: tuple[Row, ...]) -> Iterator[Row]:
        """All of it."""
        yield from self.embedding()
        for index in range(self.depth):
            yield from (row.below(f"block{self.number}.{index}") for row in self.block(unit))
        yield Row(f"norm{self.number}", LAYER_NORM, self.chans, self.chans)


def block(dim: int, hidden: int, unit: tuple[Row, ...]) -> Iterator[Row]:
    """A block's rows around those of its attention unit (Fig. 3; official code, models/van.py)."""
    yield from (Row(f"layer_scale_{half}", SCALE, dim, dim) for half in (1, 2))
    yield Row("norm1", BATCH_NORM, dim, dim)
    yield Row("attn.proj_1", POINTWISE, dim, dim)
    yield from (row.below(UNIT) for row in unit)
    yield Row("attn.proj_2", POINTWISE, dim, dim)
    yield Row("norm2", BATCH_NORM, dim, dim)
    yield Row("mlp.fc1", POINTWISE, dim, hidden)
    yield Row("mlp.dwconv.dwconv", DEPTHWISE, hidden, hidden, (3, 3))
    yield Row("mlp.fc2", POINTWISE, hidden, dim)


def lka_kernels(kernel_size: int, dilation: int) -> tuple[int, int]:
    """Sides of the depthwise and of the dilated depthwise kernel: 2d-1 and ceil(K/d) (paper, eq. 3)."""
    return 2 * dilation - 1, -(-kernel_size // dilation)


def lka_rows(dim: int, dw: int, dw_d: int, dilation: int, parts=tuple(LKA)) -> tuple[Row, ...]:
    """Large-kernel attention (eq. 1-2) with kernels of these sides; a part that is not in `parts` (Table 3) is no row."""
    rows = {
        "dw": Row(LKA["dw"], DEPTHWISE, dim, dim, (dw, dw)),
        "dw_d": Row(LKA["dw_d"], DEPTHWISE, dim, dim, (dw_d, dw_d), dilation),
        "pw": Row(LKA["pw"], POINTWISE, dim, dim),
    }
    return tuple(rows[part] for part in parts)


def lka(dim: int, config) -> tuple[Row, ...]:
    return lka_rows(dim, *lka_kernels(config.kernel_size, config.dilation), config.dilation, config.lka_parts)


# Attention units: name -> a function (channels, VANConfig) -> rows. `VANConfig.attention` names one.
UNITS = {"lka": lka}


def unit(dim: int, config) -> tuple[Row, ...]:
    """The rows of a configuration's attention unit of `dim` channels."""
    return UNITS[config.attention](dim, config)


def stages(config) -> list[Stage]:
    """The four stages of a VANConfig (Table 5): a 7×7 patch embedding with the stem's stride, then 3×3 ones with stride 2."""
    incoming = (config.in_chans, *config.embed_dims)
    rows = zip(incoming, config.embed_dims, config.depths, config.mlp_ratios)
    return [
        Stage(i, before, dim, depth, dim * ratio, 3 if i > 1 else 7, 2 if i > 1 else config.stem_stride)
        for i, (before, dim, depth, ratio) in enumerate(rows, start=1)
    ]


def head(incoming: int, classes: int) -> Iterator[Row]:
    """The linear head, where there are classes."""
    if classes:
        yield Row("head", LINEAR, incoming, classes)


def network(config) -> Iterator[Row]:
    """Every layer of a VANConfig's network."""
    for stage in stages(config):
        yield from stage.layers(unit(stage.chans, config))
    yield from head(config.embed_dims[-1], config.num_classes)
