"""What `python -m jvan.gpu_check` runs on a GPU, a process for each step; with an emulator for the GPU, the same logic on small cases.

A step prints what it finds as it goes and returns a document: {"ok": bool, …}.
"""

from __future__ import annotations

import contextlib
import platform
import statistics
import subprocess
import time

import jittor as jt
import numpy as np
from jittor import nn

from ..ops.cuda import run as cuda
from ..ops.cuda import verify
from ..ops.cuda.operators import TILE, groups_of
from .gpu_accuracy import accuracy, learning
from .gpu_benchmark import benchmark
from .gpu_parity import on, parity, training

TYPES = (
    ("float32", "float32"),
    ("float16", "float16"),
    ("float16", "float32"),
    ("bfloat16", "bfloat16"),
    ("bfloat16", "float32"),
)


def environment(dry_run):
    """The machine, as far as it can be asked."""
    found = {"python": platform.python_version(), "numpy": np.__version__, "jittor": jt.__version__}
    found["nvcc"], found["nvcc flags"] = str(jt.flags.nvcc_path), str(jt.flags.nvcc_flags)
    found["cuda"], found["cuda archs"] = bool(jt.has_cuda), str(getattr(jt.flags, "cuda_archs", "none"))
    query = "name,driver_version,memory.total,compute_cap,clocks.max.sm,clocks.max.mem"
    for key, command in (
        ("gpu", ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]),
        ("nvcc version", [found["nvcc"] or "nvcc", "--version"]),
    ):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            found[key] = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    for key, value in found.items():
        print(f"{key}: {value}", flush=True)
    return {"ok": found["cuda"] or dry_run, **found}


def jittor(dry_run):
    """Jittor's own operators that the network needs, on the device against the CPU."""
    rng = np.random.RandomState(0)
    a, b, maps = (rng.standard_normal(s).astype(np.float32) for s in ((64, 96), (48, 96), (2, 8, 9, 11)))
    cases = {
        "elementwise": lambda: jt.exp(jt.array(a)) * jt.array(a).sigmoid(),
        "sums": lambda: jt.array(maps).sum([0, 2, 3]),
        "means": lambda: jt.array(maps).mean([2, 3]),
        "permute": lambda: jt.array(maps).permute(0, 2, 3, 1),
        "permute float16": lambda: jt.array(maps).float16().permute(0, 2, 3, 1).float32(),
        "product": lambda: nn.matmul_transpose(jt.array(a), jt.array(b)),
        "gelu": lambda: nn.gelu(jt.array(a)),
        "cross entropy": lambda: nn.cross_entropy_loss(jt.array(a), jt.arange(64)),
        "casts": lambda: jt.array(a).bfloat16().float32(),
    }
    errors = {}
    for name, case in cases.items():
        try:
            expected, ours = (on(use_cuda, lambda case=case: case().numpy()) for use_cuda in (0, int(not dry_run)))
            errors[name] = float(np.abs(ours - expected).max() / np.abs(expected).max())
        except RuntimeError as error:
            errors[name] = str(error).strip().splitlines()[-1]
        print(f"{name}: {errors[name]}", flush=True)
    return {"ok": all(not isinstance(e, str) and e < 5e-3 for e in errors.values()), "errors": errors}


def kernels(dry_run):
    """Every kernel against numpy in float64, in units of what its type's rounding allows, and twice for the same bits."""
    cases = [(family, {}) for family in verify.CHECKS]
    if not dry_run:
        shapes = [(1, 1, 1, 1), (3, 7, 7, 256), (1, 13, 5, 33), (2, 56, 56, 32), (1, 28, 131, 64), (2, 14, 14, 160)]
        cases += [
            ("depthwise", {"shape": shape, "size": size, "dilation": dilation})
            for shape in shapes
            for size, dilation in ((5, 1), (7, 3), (3, 1), (9, 2))
        ]
        cases += [("depthwise_gelu", {"shape": shape}) for shape in shapes]
        cases += [
            (f, {"shape": s}) for f in ("epilogue", "batch_norm", "layer_norm") for s in ((700, 320), (12544, 96))
        ]
        cases += [
            ("residual", {"shape": (3, 196, 320)}),
            ("patches", {"shape": (3, 14, 15, 64), "size": 3, "stride": 2}),
        ]
    rows, worst = [], 0.0
    for types in TYPES[:1] if dry_run else TYPES:
        if not dry_run:
            cuda.compile_all(tuple(verify.CHECKS), types)
        for family, case in cases:
            row = {"family": family, "types": types, **case}
            try:
                row["errors"] = verify.CHECKS[family](_twice, types, **case)
                row["worst"] = max(row["errors"].values())
            except (RuntimeError, AssertionError) as error:
                row["worst"], row["fault"] = float("inf"), str(error).strip().splitlines()[-1][:300]
            worst = max(worst, row["worst"])
            rows.append(row)
            print(f"{family} {'-'.join(types)} {case}: {row['worst']:.3g} {row.get('fault', '')}", flush=True)
    return {"ok": worst <= cuda.DEVICE_MARGIN, "worst": worst, "rows": rows}


def _twice(*call):
    first, second = cuda.run_arrays(*call), cuda.run_arrays(*call)
    for a, b in zip(first, second):
        assert np.array_equal(a.view(np.uint8), b.view(np.uint8)), f"{call[0]} gave other bits the second time"
    return first


def bandwidth(dry_run):
    """Bytes that must move, over the time: of a copy, and of each depthwise kernel as a part of that."""
    rows = []
    count = 1 << (12 if dry_run else 28)
    x = jt.array(np.zeros(count, np.float32))
    large = 8 * count / _seconds_of(lambda: cuda.run("copy", [x], [x.shape])[0], dry_run)
    print(f"copy of {4 * count >> 20} MB: {large / 1e9:.0f} GB/s", flush=True)
    del x
    shapes = [(1, 5, 5, 8)] if dry_run else [(64, 56, 56, 32), (64, 56, 56, 256), (64, 28, 28, 64), (64, 28, 28, 512), (64, 14, 14, 160), (64, 7, 7, 256)]  # fmt: skip
    for dtype in ("float32",) if dry_run else ("float32", "bfloat16"):
        for shape in shapes:
            x = jt.array(np.random.RandomState(0).standard_normal(shape).astype(np.float32)).cast(dtype)
            moved = 2 * x.numel() * (4 if dtype == "float32" else 2)
            flat = x.reshape((-1,))
            copied = moved / _seconds_of(lambda flat=flat: cuda.run("copy", [flat], [flat.shape])[0], dry_run)
            for size, dilation in ((5, 1), (7, 3), (3, 1)):
                rows += _depthwise_rows(x, size, dilation, moved, min(copied, large), dry_run)
    return {"ok": True, "copy_bytes_per_second": large, "rows": rows}


def _depthwise_rows(x, size, dilation, moved, copied, dry_run):
    """Rows of forward kernels with several cuts, and of the weight's gradient, whose two maps are both read."""
    chans = x.shape[3]
    weight, bias = jt.ones((chans, 1, size, size)), jt.ones((chans,))
    numbers = {"size": size, "dilation": dilation}
    room = [weight.shape, bias.shape, (groups_of(x.shape), size * size + 1, chans)]
    heights = sorted({-(-x.shape[1] // cuts) for cuts in (1, 2, 3, 4, 6, 8)})
    cuts = [TILE] + ([] if dry_run else [{**TILE, "tile_height": h, "shift": s} for h in heights for s in (1, 2, 3)])
    rows = []
    for name, tile in [("depthwise", tile) for tile in cuts] + [("depthwise_weights", TILE)]:
        if name == "depthwise":
            inputs, shapes, more = [x, weight, bias], [x.shape], {"reverse": 0}
        else:
            inputs, shapes, more = [x, x], room, {}
        row = {"kernel": name, "shape": list(x.shape), "dtype": str(x.dtype), **numbers, "tile": tile}
        call = lambda: cuda.run(name, inputs, shapes, parameter="float32", **numbers, **tile, **more)[0]  # noqa: B023, E731
        try:
            seconds = _seconds_of(call, dry_run)
        except RuntimeError as error:  # a cut that asks for too much shared memory
            row["fault"] = str(error).strip().splitlines()[-1][:200]
        else:
            row.update(microseconds=seconds * 1e6, of_copy=moved / seconds / copied)
            print(
                f"{name} {row['shape']} {row['dtype']} {size}x{size} d{dilation} {tile}: {seconds * 1e6:.1f} us, {row['of_copy']:.2f} of a copy",
                flush=True,
            )
        rows.append(row)
    return rows


def _seconds_of(call, dry_run, repeat=20):
    """The median time of one call among many in a row, what the device waits for taken off."""

    def run(count):
        outputs = [call() for _ in range(count)]  # which Jittor but notes down; Python's time is not the kernels'
        start = time.perf_counter()
        jt.sync(outputs)
        jt.sync_all(True)
        return time.perf_counter() - start

    if dry_run:
        return run(1)
    run(2)
    return max(statistics.median((run(repeat) - run(2)) / (repeat - 2) for _ in range(5)), 1e-9)


STEPS = {
    step.__name__: step
    for step in (environment, jittor, kernels, parity, training, accuracy, learning, bandwidth, benchmark)
}
