"""`python tools/measure/gpu_floor.py`: what VAN moves and computes on a GPU, and the time that this predicts: the table of performance.md.

Nothing here is measured: COPY, PEAK, GAP, HOST and the speeds are the assumptions that the page states.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

from jvan.variants import VANConfig, variant_config

COPY = 2.8e12  # bytes a second
PEAK = {"float32": 50e12, "bfloat16": 400e12}  # operations a second of products of such shapes
GAP, HOST = 1.7e-6, 8e-6  # seconds: from one kernel to the next on the device; of Jittor's for an operator
SIZE = {"float32": 4, "bfloat16": 2}

# Parts of a copy's speed. jvan's are those of the table of kernels, PyTorch's a guess at cuDNN's depthwise ones.
SPEED = {
    ("jvan", "float32"): {"pass": 0.88, "product": 0.8, "gather": 0.6, "dw3": 0.85, "dw5": 0.78, "dw7": 0.6},
    ("jvan", "bfloat16"): {"pass": 0.88, "product": 0.8, "gather": 0.5, "dw3": 0.77, "dw5": 0.58, "dw7": 0.35},
    ("torch", "float32"): {"pass": 0.9, "product": 0.8, "dw3": 0.4, "dw5": 0.3, "dw7": 0.15},
    ("torch", "bfloat16"): {"pass": 0.9, "product": 0.8, "dw3": 0.4, "dw5": 0.3, "dw7": 0.15},
}
WEIGHTS = {"jvan": 1.3, "torch": 2.0}  # a depthwise weight's gradient in times of a forward pass

# The passes of a block, each by the maps that it reads and writes: of the stage's width, then of the feed-forward's middle.
# PyTorch's as `torch.compile` fuses them: a convolution's bias joins what follows it, or is its own pass.
# In training the attention's and the feed-forward's come in turn, forward, then backward.
PASSES = {
    ("jvan", False): ((2, 3, 3, 3), ()),
    ("jvan", True): ((1, 2, 2, 3, 4, 1, 2, 3, 4, 5, 3, 3, 3, 2, 3, 3, 3, 2, 3, 3), (3, 1)),
    ("torch", False): ((2, 2, 2, 3, 5, 4), (2, 2)),
    ("torch", True): ((1, 2, 2, 2, 2, 3, 4, 1, 2, 3, 4, 5, 3, 3, 3, 5, 3, 1, 1, 3, 5, 3), (2, 2, 3, 1, 1)),
}
SMALL = {
    "jvan": 29,
    "torch": 12,
}  # launches of a block in training that move next to nothing: sums' ends, weights' casts, statistics


class Op(NamedTuple):
    """A kind of operator: the elements that it moves for a picture, its operations, its launches, how slow it is for its kind."""

    kind: str
    elements: float
    flops: float = 0
    launches: int = 1
    slower: float = 1


def operators(config: VANConfig, side: int, engine: str, train: bool) -> Iterator[Op]:
    """All of a forward pass, or of a training step without its optimiser, for a picture."""
    before, pixels = 3, side * side
    for i, (chans, depth, ratio) in enumerate(zip(config.embed_dims, config.depths, config.mlp_ratios)):
        taken, pixels = before * pixels, pixels // (16 if i == 0 else 4)
        yield from _patches(taken, 49 if i == 0 else 9, before, chans, pixels, engine, train)
        for _ in range(depth):
            yield from _block(chans * pixels, chans, ratio, engine, train)
        before = chans
    yield Op("pass", 0, launches=15 if train else 6)  # permutation, head, loss


def _patches(taken, taps, before, chans, pixels, engine, train):
    """A stage's patch embedding and its LayerNorm, of maps of `taken` elements."""
    m, columns = chans * pixels, -(-taps * before // 8) * 8
    read = columns * pixels if engine == "jvan" else taken
    if engine == "jvan":
        yield Op("gather", taken + read)
    yield Op("product", read + m, 2 * taps * before * m)
    yield from (Op("pass", 2 * m) for _ in range(2))
    if train:
        yield Op("product", 2 * (read + m), 4 * taps * before * m, 2)
        yield from (Op("pass", maps * m) for maps in (1, 2, 5, 5, 1))  # statistics, norm; LayerNorm, BatchNorm, bias
        if engine == "jvan" and taps == 9:
            yield Op("gather", taken + read)
        yield Op("pass", 0, launches=16)


def _block(m, chans, ratio, engine, train):
    products = [Op("product", 2 * m, 2 * m * chans)] * 3 + [Op("product", (1 + ratio) * m, 2 * m * chans * ratio)] * 2
    kept = int(train and engine == "jvan")  # what GELU is applied to
    yield from products
    yield from (Op("dw5", 2 * m), Op("dw7", 2 * m), Op("dw3", (2 + kept) * ratio * m))
    fixed, wide = PASSES[engine, train]
    yield from (Op("pass", maps * m) for maps in fixed)
    yield from (Op("pass", maps * m * ratio) for maps in wide)
    if train:  # the gradients of each one's input and of its weight
        yield from (Op("product", 2 * op.elements, 2 * op.flops, 2) for op in products)
        for kind, elements in (("dw5", 2 * m), ("dw7", 2 * m), ("dw3", 2 * m * ratio)):
            yield Op(kind, elements)
            yield Op(kind, elements, launches=2, slower=WEIGHTS[engine])
        yield Op("pass", 0, launches=SMALL[engine])


def parameters(config: VANConfig) -> tuple[int, int]:
    """How many there are, and in how many tensors."""
    total, before = (config.embed_dims[-1] + 1) * config.num_classes, 3
    for i, (c, depth, ratio) in enumerate(zip(config.embed_dims, config.depths, config.mlp_ratios)):
        block = 3 * c * c + 2 * ratio * c * c + (25 + 49 + 9 * ratio) * c + (5 + 2 * ratio + 1 + 4 + 2) * c
        total += (49 if i == 0 else 9) * before * c + 5 * c + depth * block
        before = c
    return total, 22 * sum(config.depths) + 26


class Prediction(NamedTuple):
    """Bytes, operations and launches of an iteration, and the seconds that they take."""

    bytes: float
    flops: float
    launches: int
    seconds: float


def predict(arch: str, engine: str, train: bool, dtype: str, batch: int) -> Prediction:
    """For pictures of 224×224. PyTorch's launches are those of a CUDA graph, which the host does not wait for."""
    config = variant_config(arch)
    ops, speed = list(operators(config, 224, engine, train)), SPEED[engine, dtype]
    count, tensors = parameters(config)
    moved, flops = batch * SIZE[dtype] * sum(op.elements for op in ops), batch * sum(op.flops for op in ops)
    launches = sum(op.launches for op in ops)
    seconds = sum(
        max(batch * SIZE[dtype] * op.elements * op.slower / speed[op.kind] / COPY, batch * op.flops / PEAK[dtype])
        for op in ops
    )
    weights = count * (
        SIZE[dtype] if not train else 28 + 3 * (4 + SIZE[dtype])
    )  # AdamW moves 7 float32, casts the rest
    launches += (tensors if engine == "jvan" else 20) * train
    seconds += weights / COPY + launches * GAP
    if engine == "jvan":
        seconds = max(seconds, launches * HOST)
    return Prediction(moved + weights, flops, launches, seconds)


def rows() -> Iterator[str]:
    """Of the table in performance.md."""
    yield "| | | batch | GB | ms | TFLOP | ms | launches | ms | predicted | PyTorch | ratio |"
    yield "|-|-|-|-|-|-|-|-|-|-|-|-|"
    cases = [(False, dtype, batch) for dtype in SIZE for batch in (1, 64, 256)] + [(True, "bfloat16", 128)]
    for arch in ("van_b0", "van_b2"):
        for train, dtype, batch in cases:
            ours, theirs = (predict(arch, engine, train, dtype, batch) for engine in ("jvan", "torch"))
            yield (
                f"| {arch.upper().replace('_', '-')}{', training' * train} | {dtype} | {batch} | {ours.bytes / 1e9:.3g} | {ours.bytes / COPY * 1e3:.3g} "
                f"| {ours.flops / 1e12:.3g} | {ours.flops / PEAK[dtype] * 1e3:.3g} | {ours.launches} | {ours.launches * HOST * 1e3:.2g} "
                f"| {ours.seconds * 1e3:.3g} | {theirs.seconds * 1e3:.3g} | {ours.seconds / theirs.seconds:.2f} |"
            )


if __name__ == "__main__":
    print("\n".join(rows()))
