"""Sizes and weights as the fused network reads them (ops/kernels/plan.h): one array of int32, one of float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .fold import Layer, fold_block, fold_patch_embed

BLOCK = 32  # channels that lie together; BLOCK in gemm.h
CACHE = 512 * 1024  # bytes of a core's cache that hidden maps may take
GATES = {"none": 0, "multiply": 3, "add": 4, "sigmoid": 5}  # enum After in gemm.h
ALIGNMENT = 16  # floats: a cache line
ROUNDED = 96  # rows that are rounded to bfloat16 at a time; ROUNDED in gemm.h
PATCHES = 48  # pixels whose patches are laid out at a time


@dataclass(frozen=True)
class StageSizes:
    """One stage of the network: output channels, blocks, hidden channels, and its patch embedding."""

    chans: int
    depth: int
    hidden: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class Sizes:
    """All that the operator must know of a network beside its weights."""

    in_chans: int
    classes: int  # 0: no head
    local: int  # sides of the depthwise kernels; 0: left out
    remote: int
    dilation: int
    pointwise: bool
    gate: str
    norm_eps: float
    stages: tuple[StageSizes, ...]
    pairs: bool = False  # products' weights as pairs of bfloat16, but for the stem's and the head's


def blocks(chans: int) -> int:
    return -(-chans // BLOCK)


def pack_weights(sizes: Sizes, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Every weight in the order in which the operator takes them, each piece on a cache line; tensors by official name."""
    return np.concatenate([_aligned(piece) for piece in _pieces(sizes, tensors)])


def _pieces(sizes: Sizes, tensors: dict[str, np.ndarray]):
    for i, stage in enumerate(sizes.stages, start=1):
        embed = fold_patch_embed(_section(tensors, f"patch_embed{i}."))
        panels = _patch_panels(embed.weight, stem=i == 1)
        yield _pairs(panels) if sizes.pairs and i > 1 else panels
        yield _padded(embed.bias)
        for j in range(stage.depth):
            yield from _block_pieces(_section(tensors, f"block{i}.{j}."), sizes.pairs)
        yield _padded(tensors[f"norm{i}.weight"])
        yield _padded(tensors[f"norm{i}.bias"])
    if sizes.classes:
        yield from _product(Layer(tensors["head.weight"], tensors["head.bias"]))


def _block_pieces(tensors: dict[str, np.ndarray], pairs: bool) -> list[np.ndarray]:
    block = fold_block(tensors)
    pieces = _product(block.proj_1, pairs)
    for layer in (block.conv0, block.conv_spatial):
        pieces += _depthwise(layer) if layer else []
    pieces += _product(block.conv1, pairs) if block.conv1 else []
    pieces += [_padded(block.scale), *_product(block.proj_2, pairs)]
    return pieces + _product(block.fc1, pairs) + _depthwise(block.dwconv) + _product(block.fc2, pairs)


def _product(layer: Layer, pairs: bool = False) -> list[np.ndarray]:
    panels = _panels(_fill(layer.weight.T, 0))
    return [_pairs(panels) if pairs else panels, _padded(layer.bias)]


def _pairs(panels: np.ndarray) -> np.ndarray:
    """(blocks, depth, 32) -> (blocks, depth / 2, 32): words of two bfloat16, the earlier row's in the lower half."""
    bits = np.asarray(panels, np.float32).view(np.uint32)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return (bits[:, 0::2] | bits[:, 1::2] << 16).view(np.float32)


def _depthwise(layer: Layer) -> list[np.ndarray]:
    """(C, 1, K, K) -> (blocks, K, K, 32)"""
    taps = _fill(layer.weight[:, 0], 0)
    return [np.moveaxis(taps.reshape(-1, BLOCK, *taps.shape[1:]), 1, -1), _padded(layer.bias)]


def _patch_panels(weight: np.ndarray, stem: bool) -> np.ndarray:
    """(O, C, K, K) with the patches' values in the order (c, ky, kx) of a picture, or (ky, kx, c) of a map."""
    if stem:
        return _panels(weight.reshape(len(weight), -1).T)
    patches = np.moveaxis(_fill(weight, 1), 0, -1)  # (C, ky, kx, O)
    return _panels(np.moveaxis(patches, 0, 2).reshape(-1, len(weight)))


def _panels(matrix: np.ndarray) -> np.ndarray:
    """(depth, O) -> (blocks, depth, 32)"""
    matrix = _fill(matrix, 1)
    return np.moveaxis(matrix.reshape(len(matrix), -1, BLOCK), 1, 0)


def _padded(vector: np.ndarray) -> np.ndarray:
    return _fill(np.asarray(vector), 0)


def _fill(array: np.ndarray, axis: int) -> np.ndarray:
    """Zeros up to a whole number of blocks along `axis`."""
    missing = [(0, 0)] * array.ndim
    missing[axis] = (0, -array.shape[axis] % BLOCK)
    return np.pad(array, missing)


def _aligned(piece: np.ndarray) -> np.ndarray:
    flat = np.asarray(piece, np.float32).ravel()
    return np.pad(flat, (0, -flat.size % ALIGNMENT))


def _section(tensors, prefix: str) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class Plan:
    """A network on pictures of one size: the array for the operator, its scratch in floats, and the maps' sizes."""

    array: np.ndarray
    scratch: int
    maps: tuple[tuple[int, int], ...]


def make_plan(
    sizes: Sizes, pictures: int, height: int, width: int, threads: int, wanted=(), logits: bool = True
) -> Plan:
    """`wanted` are the stages, from 0, whose maps are outputs, `logits` says whether those are."""
    last = 4 if logits else max(wanted) + 1
    team = 1 if pictures >= threads else threads
    rows, maps = [], []
    map_floats = hidden = own = strip = words = rounded = 1
    chans = sizes.in_chans
    for i, stage in enumerate(sizes.stages):
        height, width = (_strided(n, stage) for n in (height, width))
        maps.append((height, width))
        if i >= last:
            rows.append([stage.chans, stage.depth, stage.hidden, stage.kernel, stage.stride, 0, 0, 0, 0, 0, 0])
            continue
        ring, chunk, by_channels = _strategy(stage, height, width, team)
        rows.append([stage.chans, stage.depth, stage.hidden, stage.kernel, stage.stride, height, width, ring, chunk,
                     by_channels, int(i in wanted)])  # fmt: skip
        block = height * width * BLOCK
        map_floats = max(map_floats, blocks(stage.chans) * block)
        hidden = max(hidden, chunk * block)
        own = max(own, 4 * ring * width * BLOCK if ring else block)
        if i == 0:
            strip = stage.kernel * chans * ((width - 1) * stage.stride + stage.kernel)
        else:
            strip = max(strip, _round(stage.kernel**2 * blocks(chans) * BLOCK) * PATCHES)
        if sizes.pairs:
            depth = max(blocks(stage.hidden) * BLOCK, stage.kernel**2 * blocks(chans) * BLOCK if i else 0)
            words = max(words, ROUNDED * depth // 2)
            rounded = max(rounded, (width if ring else height * width) * blocks(stage.chans) * BLOCK // 2)
        chans = stage.chans
    map_floats, hidden, own, strip, words, rounded = map(_round, (map_floats, hidden, own, strip, words, rounded))
    last_chans = blocks(sizes.stages[-1].chans) * BLOCK
    scratch = pictures * (last_chans + blocks(sizes.classes) * BLOCK) + threads * (own + strip + words + rounded)
    scratch += (threads if team == 1 else 1) * (5 * map_floats + hidden) + 64
    eps = int(np.float32(sizes.norm_eps).view(np.int32))
    head = [threads, int(logits), sizes.classes, sizes.local, sizes.remote, sizes.dilation, int(sizes.pointwise), GATES[sizes.gate],
            eps, int(sizes.pairs), map_floats, hidden, own, strip, words, rounded]  # fmt: skip
    return Plan(np.array(head + [n for row in rows for n in row], np.int32), scratch, tuple(maps))


def _strategy(stage: StageSizes, height: int, width: int, team: int) -> tuple[int, int, int]:
    """(hidden blocks a ring, hidden blocks a map, share by channels) for a stage: plan.h says what they mean."""
    count, hidden = blocks(stage.chans), blocks(stage.hidden)
    by_channels = int(team > 1 and count % team == 0 and height < 12 * team)
    if height >= 12 * team and not by_channels:
        return min(hidden, max(2, CACHE // (4 * width * BLOCK * 4))), 0, by_channels
    if team > 1:
        return 0, hidden, by_channels
    return 0, min(hidden, max(2, CACHE // (height * width * BLOCK * 4))), by_channels


def _strided(length: int, stage: StageSizes) -> int:
    return (length + 2 * (stage.kernel // 2) - stage.kernel) // stage.stride + 1


def _round(floats: int) -> int:
    return -(-floats // ALIGNMENT) * ALIGNMENT
