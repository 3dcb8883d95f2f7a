"""Sizes as the fused network reads them (ops/kernels/plan.h), one array of int32, and how much scratch memory it needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ops.gates import GATES
from ...ops.shapes import convolved
from ...structure import LKA, Row, Stage, lka_rows

BLOCK = 32  # channels that lie together; BLOCK in product.h
CACHE = 512 * 1024  # bytes of a core's cache that hidden maps may take
ALIGNMENT = 16  # floats: a cache line
ROUNDED = 96  # rows that are rounded to bfloat16 at a time; ROUNDED in gemm.h
PATCHES = 48  # pixels whose patches are laid out at a time
# The members of plan.h's structs, in their order.
SCRATCH = ("map", "hidden", "own", "strip", "words", "rounded")
HEAD = ("threads", "logits", "classes", "dw", "dw_d", "dilation", "pw", "gate", "norm_eps_bits", "pairs", *SCRATCH)
STRATEGY = ("ring", "chunk", "by_channels")
STAGE = ("chans", "depth", "hidden", "kernel", "stride", "height", "width", *STRATEGY, "wanted")


@dataclass(frozen=True)
class Sizes:
    """All that the operator must know of a network beside its weights."""

    in_chans: int
    classes: int  # 0: no head
    dw: int  # sides of the attention's depthwise kernels; 0: left out
    dw_d: int
    dilation: int
    pw: bool
    gate: str
    norm_eps: float
    stages: tuple[Stage, ...]
    bfloat16_pairs: bool = False  # products' weights as pairs of bfloat16, but for the stem's and the head's

    def unit(self, chans: int) -> tuple[Row, ...]:
        """The rows of the attention unit of a stage with this many channels."""
        parts = [part for part, there in zip(LKA, (self.dw, self.dw_d, self.pw)) if there]
        return lka_rows(chans, self.dw, self.dw_d, self.dilation, parts)


def blocks(chans: int) -> int:
    return -(-chans // BLOCK)


@dataclass(frozen=True)
class Plan:
    """A network on pictures of one size: the array for the operator, its scratch in floats, and the maps' sizes."""

    array: np.ndarray
    scratch: int
    maps: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Work:
    """A stage on maps of one size: how it is computed (plan.h), and the floats of scratch that it needs."""

    stage: Stage
    height: int
    width: int
    team: int  # threads that share a picture

    @property
    def strategy(self) -> tuple[int, int, int]:
        """(hidden blocks a ring, hidden blocks a map, share by channels): plan.h says what they mean."""
        count, hidden = blocks(self.stage.chans), blocks(self.stage.hidden)
        by_channels = int(self.team > 1 and count % self.team == 0 and self.height < 12 * self.team)
        if self.height >= 12 * self.team and not by_channels:
            return min(hidden, max(2, CACHE // (4 * self.width * BLOCK * 4))), 0, by_channels
        if self.team > 1:
            return 0, hidden, by_channels
        return 0, min(hidden, max(2, CACHE // (self.block * 4))), by_channels

    @property
    def block(self) -> int:
        return self.height * self.width * BLOCK

    def scratch(self, sizes: Sizes, chans: int, is_stem: bool) -> tuple[int, ...]:
        """(a map, a team's hidden map; a thread's hidden rows, patches, rounded rows, rounded map or row); chans come in."""
        stage, (ring, chunk, _) = self.stage, self.strategy
        own = 4 * ring * self.width * BLOCK if ring else self.block
        patch = stage.kernel**2 * blocks(chans) * BLOCK
        strip = _round(patch) * PATCHES
        if is_stem:
            strip = stage.kernel * chans * ((self.width - 1) * stage.stride + stage.kernel)
        words = rounded = 1
        if sizes.bfloat16_pairs:
            depth = max(blocks(stage.chans) * BLOCK, blocks(stage.hidden) * BLOCK, 0 if is_stem else patch)
            words = ROUNDED * depth // 2
            rounded = (self.width if ring else self.height * self.width) * blocks(stage.chans) * BLOCK // 2
        return blocks(stage.chans) * self.block, max(1, chunk * self.block), own, strip, words, rounded


def make_plan(
    sizes: Sizes, pictures: int, height: int, width: int, threads: int, wanted=(), logits: bool = True
) -> Plan:
    """`wanted` are the stages, from 0, whose maps are outputs, `logits` says whether those are.

    Raises ValueError for pictures whose maps the operator cannot count.
    """
    last = 4 if logits else max(wanted) + 1
    team = 1 if pictures >= threads else threads
    rows, maps, scratch = [], [], []
    chans = sizes.in_chans
    for i, stage in enumerate(sizes.stages):
        height, width = convolved((height, width), stage.kernel, stage.stride, stage.kernel // 2)
        maps.append((height, width))
        row = stage._asdict()
        if i < last:
            work = Work(stage, height, width, team)
            scratch.append(work.scratch(sizes, chans, is_stem=i == 0))
            row.update(zip(STRATEGY, work.strategy), height=height, width=width, wanted=int(i in wanted))
        rows += [row.get(name, 0) for name in STAGE]
        chans = stage.chans
    floats = [_round(max(column)) for column in zip(*scratch)]
    head = {"threads": threads, "logits": int(logits), **_network(sizes), **dict(zip(SCRATCH, floats))}
    numbers = [head[name] for name in HEAD] + rows
    if max(numbers) >= 2**31:
        raise ValueError(
            f"maps of {maps[0][0]}×{maps[0][1]} pixels are too large for one operator; cut the pictures up"
        )
    return Plan(np.array(numbers, np.int32), _total(sizes, pictures, threads, team, floats), tuple(maps))


def _network(sizes: Sizes) -> dict[str, int]:
    """What of a plan is the network's own."""
    return {
        "classes": sizes.classes,
        "dw": sizes.dw,
        "dw_d": sizes.dw_d,
        "dilation": sizes.dilation,
        "pw": int(sizes.pw),
        "gate": GATES[sizes.gate].after,
        "norm_eps_bits": int(np.float32(sizes.norm_eps).view(np.int32)),
        "pairs": int(sizes.bfloat16_pairs),
    }


def _total(sizes: Sizes, pictures: int, threads: int, team: int, floats: list[int]) -> int:
    """Floats of scratch in all: what a picture's threads share, what each has, pooled features and logits, and alignment."""
    a_map, hidden, *own = floats
    shared = (threads if team == 1 else 1) * (5 * a_map + hidden)
    outputs = pictures * (blocks(sizes.stages[-1].chans) + blocks(sizes.classes)) * BLOCK
    return shared + threads * sum(own) + outputs + 64


def _round(floats: int) -> int:
    return -(-floats // ALIGNMENT) * ALIGNMENT
