"""The kernels' bandwidth: bytes that must move over the time, against what the fastest large copy moves. A step of `python -m tools.gpu_check`."""

from __future__ import annotations

import contextlib
import itertools

import jittor as jt

from jvan._say import show

from . import timed
from .calls import PASSES, call

SHAPES = ((64, 56, 56, 32), (64, 56, 56, 256), (64, 28, 28, 64), (64, 28, 28, 512), (64, 14, 14, 160), (64, 7, 7, 256))
LARGE = (1, 1 << 14, 1 << 14, 1)  # a copy of 1 GiB of float32
STEM = (64, 224, 224, 3)
COPIES = ("copy", "driver_copy")
SIZES = ((5, 1), (7, 3), (3, 1))  # size and dilation of the depthwise kernels
# (kernel, size, dilation or the patches' stride); without sizes: a copy as large as the maps, and all passes beside the products.
KERNELS = (
    *((kernel, *sizes) for kernel in ("depthwise", "depthwise_dx", "depthwise_weights") for sizes in SIZES),
    ("depthwise_gelu", 3, 1),
    ("depthwise_gelu_weights", 3, 1),
    ("gather_patches", 3, 2),
    ("add_patches", 3, 2),
    *((kernel, 0, 0) for kernel in ("copy", "adamw", *PASSES)),
)
OF_STEM = (("gather_patches", 7, 4),)


def bandwidth(task):
    """Each kernel's bytes over its time as a part of what a copy of 1 GiB moves, and depthwise convolutions with other cuts.

    The copy is the faster of jvan's own kernel and of the driver's.
    """
    copies = {kernel: _copy(task, kernel) for kernel in COPIES}
    most = max(copies.values())
    found = {"ok": True, "copy_bytes_per_second": most, "copies": copies, "rows": []}
    for dtype in ("float32",) if task.dry_run else ("float32", "float16", "bfloat16"):
        if not task.dry_run:
            _compile(dtype)
        shapes = ((1, 5, 5, 8),) if task.dry_run else SHAPES
        for shape, kernels in ((STEM if not task.dry_run else (1, 9, 9, 3), OF_STEM), *((s, KERNELS) for s in shapes)):
            found["rows"] += _rows(task, shape, kernels, dtype, most)
            task.save(found)
    return {**found, "ok": not any("fault" in row for row in found["rows"] if row["tile"] is None)}


def _copy(task, kernel) -> float:
    called = call(kernel, (1, 8, 8, 1) if task.dry_run else LARGE, "float32")
    rate = called.moved / timed.seconds_of(called)
    show(f"{kernel} of {called.moved >> 21} MB: {rate / 1e9:.0f} GB/s")
    return rate


def _compile(dtype) -> None:
    """All kernels on a small map: Jittor compiles what is asked for together on all cores."""
    of_dtype = [kernel for kernel in (*OF_STEM, *KERNELS) if is_of(kernel[0], dtype)]
    times = [timed.begin(call(kernel, (1, 4, 4, 8), dtype, *sizes), 1, 1) for kernel, *sizes in of_dtype]
    with contextlib.suppress(RuntimeError):  # the kernels' own rows say which one it is
        jt.sync(times)


def is_of(kernel, dtype) -> bool:
    """Whether there is such a kernel: AdamW's arrays are float32."""
    return kernel != "adamw" or dtype == "float32"


def _rows(task, shape, kernels, dtype, most) -> list[dict]:
    """A row for each kernel on maps of this shape, and for each cut of a depthwise convolution; `tile` None is its own choice."""
    one = 4 if dtype == "float32" else 2
    count = shape[0] * shape[1] * shape[2] * shape[3]
    turns = 1 if task.dry_run else timed.turns_of(2 * one * count)
    rows = []
    for kernel, *sizes in kernels:
        if not is_of(kernel, dtype):
            continue
        for tile in (None, *(_cuts(shape[1]) if kernel == "depthwise" and not task.dry_run else ())):
            row = {"kernel": kernel, "size": sizes[0], "dilation": sizes[1], "shape": list(shape), "dtype": dtype}
            rows.append({**row, "tile": tile, **_measured(kernel, shape, dtype, sizes, tile, turns, most)})
            if tile is None:
                _tell(rows[-1])
    return rows


def _measured(kernel, shape, dtype, sizes, tile, turns, most) -> dict:
    called = call(kernel, shape, dtype, *sizes, turns=turns, tile=tile)
    try:
        seconds = timed.seconds_of(called, turns)
    except RuntimeError as error:  # a cut that asks for too much shared memory
        return {"fault": str(error).strip().splitlines()[-1][:200]}
    return {"microseconds": seconds * 1e6, "of_copy": called.moved / seconds / most}


def _tell(row) -> None:
    step = "stride " if row["kernel"].endswith("patches") else "d"
    sizes = f" {row['size']}x{row['size']} {step}{row['dilation']}" if row["size"] else ""
    what = row.get("fault") or f"{row['microseconds']:.1f} us, {row['of_copy']:.2f} of a copy"
    show(f"{row['kernel']}{sizes} {row['shape']} {row['dtype']}: {what}")


def _cuts(height) -> list[dict]:
    heights = sorted({-(-height // parts) for parts in (1, 2, 3, 4, 6, 8)})
    return [{"tile_height": h, "shift": s} for h, s in itertools.product(heights, (1, 2, 3))]
