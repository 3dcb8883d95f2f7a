"""The kernels' bandwidth: bytes that must move over the time, against what a large copy moves. A step of `python -m jvan.gpu_check`."""

from __future__ import annotations

import contextlib
import itertools

import jittor as jt

from ..ops.cuda.operators import OPERATORS, TILE, groups_of, slices_of
from . import gpu_timed

SHAPES = ((64, 56, 56, 32), (64, 56, 56, 256), (64, 28, 28, 64), (64, 28, 28, 512), (64, 14, 14, 160), (64, 7, 7, 256))
LARGE = (1, 1 << 14, 1 << 14, 1)  # a copy of 1 GiB of float32
SIZES = ((5, 1), (7, 3), (3, 1))  # size and dilation of the depthwise kernels
# (kernel, size, dilation); without sizes: a copy as large as the maps, and a pass of each kind beside the products.
KERNELS = (
    *((kernel, *sizes) for kernel in ("depthwise", "depthwise_weights") for sizes in SIZES),
    ("depthwise_gelu", 3, 1),
    ("depthwise_gelu_weights", 3, 1),
    *((kernel, 0, 0) for kernel in ("copy", "bias", "bias_gate", "residual", "batch_statistics", "batch_norm", "layer_norm")),
)  # fmt: skip


def bandwidth(task):
    """Each kernel's bytes over its time as a part of what a copy of 1 GiB moves, and depthwise convolutions with other cuts."""
    found = {"ok": True, "copy_bytes_per_second": _copy(task), "rows": []}
    for dtype in ("float32",) if task.dry_run else ("float32", "float16", "bfloat16"):
        if not task.dry_run:
            _compile(dtype)
        for shape in ((1, 5, 5, 8),) if task.dry_run else SHAPES:
            found["rows"] += _rows(task, shape, dtype, found["copy_bytes_per_second"])
            task.save(found)
    return {**found, "ok": not any("fault" in row for row in found["rows"] if row["tile"] is None)}


def _copy(task) -> float:
    shape = (1, 8, 8, 1) if task.dry_run else LARGE
    maps = [_map(shape, "float32")]
    moved, inputs, outputs, numbers = call("copy", shape, maps)
    rate = moved / gpu_timed.seconds_of("copy", inputs, outputs, 1, **numbers)
    print(f"copy of {moved >> 21} MB: {rate / 1e9:.0f} GB/s", flush=True)
    return rate


def _compile(dtype) -> None:
    """All kernels on a small map: Jittor compiles what is asked for together on all cores."""
    shape = (1, 4, 4, 8)
    maps = [_map(shape, dtype) for _ in range(3)]
    times = []
    for kernel, *sizes in KERNELS:
        _, inputs, outputs, numbers = call(kernel, shape, maps, *sizes)
        times.append(gpu_timed.begin(kernel, inputs, outputs, 1, 1, **numbers))
    with contextlib.suppress(RuntimeError):  # the kernels' own rows say which one it is
        jt.sync(times)


def _rows(task, shape, dtype, most) -> list[dict]:
    """A row for each kernel on maps of this shape, and for each cut of a depthwise convolution; `tile` None is its own choice."""
    one = 4 if dtype == "float32" else 2
    count = shape[0] * shape[1] * shape[2] * shape[3]
    turns = 1 if task.dry_run else gpu_timed.turns_of(2 * one * count)
    maps = [_map((turns * shape[0], *shape[1:]), dtype) for _ in range(3)]
    rows = []
    for kernel, *sizes in KERNELS:
        for tile in (None, *(_cuts(shape[1]) if kernel == "depthwise" and not task.dry_run else ())):
            row = {"kernel": kernel, "size": sizes[0], "dilation": sizes[1], "shape": list(shape), "dtype": dtype}
            rows.append({**row, "tile": tile, **_measured(kernel, shape, maps, sizes, tile, turns, most)})
            if tile is None:
                _tell(rows[-1])
    return rows


def _measured(kernel, shape, maps, sizes, tile, turns, most) -> dict:
    moved, inputs, outputs, numbers = call(kernel, shape, maps, *sizes, turns=turns, tile=tile)
    try:
        seconds = gpu_timed.seconds_of(kernel, inputs, outputs, turns, **numbers)
    except RuntimeError as error:  # a cut that asks for too much shared memory
        return {"fault": str(error).strip().splitlines()[-1][:200]}
    return {"microseconds": seconds * 1e6, "of_copy": moved / seconds / most}


def _tell(row) -> None:
    sizes = f" {row['size']}x{row['size']} d{row['dilation']}" if row["size"] else ""
    what = row.get("fault") or f"{row['microseconds']:.1f} us, {row['of_copy']:.2f} of a copy"
    print(f"{row['kernel']}{sizes} {row['shape']} {row['dtype']}: {what}", flush=True)


def _cuts(height) -> list[dict]:
    heights = sorted({-(-height // parts) for parts in (1, 2, 3, 4, 6, 8)})
    return [{"tile_height": h, "shift": s} for h, s in itertools.product(heights, (1, 2, 3))]


def _map(shape, dtype):
    return jt.randn(shape).cast(dtype)


def call(kernel, shape, maps, size=0, dilation=0, turns=1, tile=None):
    """(bytes that a call must move, inputs, shapes of outputs, numbers) of a kernel on maps of `shape`, `turns` in each of `maps`."""
    pictures, height, width, chans = shape
    rows, pixels = pictures * height * width, turns * pictures * height * width
    spatial = {**TILE, **(tile or {}), "size": size, "dilation": dilation}
    taps, room = (chans, 1, size, size), (groups_of(shape), size * size + 1, chans)
    whole, flat, slices = (turns * pictures, height, width, chans), (pixels, chans), {"slices": slices_of(rows, chans)}
    line, each = (pixels * chans,), (chans,)
    # how often a map is read or written; how maps are shaped; the parameters' shapes; the outputs' shapes; numbers
    times, view, parameters, outputs, numbers = {
        "copy": (2, line, [], [line], {}),
        "depthwise": (2, whole, [taps, each], [whole], {"reverse": 0, **spatial}),
        "depthwise_gelu": (2, whole, [taps, each, each], [whole, (turns, 1, 1, 1)], {"keep": 0, **spatial}),
        "depthwise_weights": (2, whole, [], [taps, each, room], spatial),
        "depthwise_gelu_weights": (2, whole, [each], [taps, each, room], spatial),
        "bias": (2, flat, [each], [flat], {"with_gelu": 1, **slices}),
        "bias_gate": (3, flat, [each], [flat], slices),
        "residual": (4, flat, [each, each, (pictures,)], [flat], {"inner": 1, **slices}),
        "batch_statistics": (1, flat, [], [each, each, (slices["slices"], 3, chans)], {}),
        "batch_norm": (2, flat, [each] * 4, [flat], slices),
        "layer_norm": (2, flat, [each, each], [flat], {"eps": 1e-5}),
    }[kernel]
    maps, parameters = iter(maps), iter(parameters)
    inputs = [
        next(maps).reshape(view) if letter == "T" else jt.ones(next(parameters)) for letter in OPERATORS[kernel].inputs
    ]
    moved = times * rows * chans * (4 if inputs[0].dtype == "float32" else 2)
    return moved, inputs, outputs, numbers
