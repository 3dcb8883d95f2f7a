"""What `python -m tools.gpu_check` runs on a GPU, a process for each step; with an emulator for the GPU, the same logic on small cases.

A step takes a gpu_task.Task, prints what it finds as it goes, and returns a document: {"ok": bool, …}.
"""

from __future__ import annotations

import jittor as jt
import numpy as np
from jittor import nn

from jvan._say import show
from jvan.ops.cuda import launch as cuda
from jvan.ops.cuda import verify

from .accuracy import accuracy, learning
from .bandwidth import bandwidth
from .benchmark import speed, speed_compiled, speed_training
from .environment import environment
from .parity import on, parity
from .training import training

TYPES = (
    ("float32", "float32"),
    ("float16", "float16"),
    ("float16", "float32"),
    ("bfloat16", "bfloat16"),
    ("bfloat16", "float32"),
)


def jittor(task):
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
            expected, ours = (on(use_cuda, lambda case=case: case().numpy()) for use_cuda in (0, task.use_cuda))
            errors[name] = float(np.abs(ours - expected).max() / np.abs(expected).max())
        except RuntimeError as error:
            errors[name] = str(error).strip().splitlines()[-1]
        show(f"{name}: {errors[name]}")
    return {"ok": all(not isinstance(e, str) and e < 5e-3 for e in errors.values()), "errors": errors}


def kernels(task):
    """Every kernel against numpy in float64, in units of what its type's rounding allows, and twice for the same bits."""
    cases = [(family, {}) for family in verify.CHECKS]
    if not task.dry_run:
        shapes = [(1, 1, 1, 1), (3, 7, 7, 256), (1, 13, 5, 33), (2, 56, 56, 32), (1, 28, 131, 64), (2, 14, 14, 160)]
        cases += [
            ("depthwise", {"shape": shape, "size": size, "dilation": dilation})
            for shape in shapes
            for size, dilation in ((5, 1), (7, 3), (3, 1), (9, 2))
        ]
        # Any size and reach: with a tile as large as the device allows, and without one (121×121 pixels are too many).
        reaches = (
            ((1, 33, 35, 16), 21, 1),
            ((1, 33, 35, 16), 31, 1),
            ((1, 50, 52, 16), 7, 8),
            ((1, 125, 127, 16), 3, 60),
        )
        cases += [("depthwise", {"shape": shape, "size": size, "dilation": d}) for shape, size, d in reaches]
        cases += [("depthwise_gelu", {"shape": shape}) for shape in shapes]
        cases += [
            (f, {"shape": s}) for f in ("epilogue", "batch_norm", "layer_norm") for s in ((700, 320), (12544, 96))
        ]
        cases += [
            ("residual", {"shape": (3, 196, 320)}),
            ("patches", {"shape": (3, 14, 15, 64), "size": 3, "stride": 2}),
        ]
    rows, worst = [], 0.0
    for types in TYPES[:1] if task.dry_run else TYPES:
        if not task.dry_run:
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
            show(f"{family} {'-'.join(types)} {case}: {row['worst']:.3g} {row.get('fault', '')}")
    return {"ok": worst <= cuda.DEVICE_MARGIN, "worst": worst, "rows": rows}


def _twice(*call):
    first, second = cuda.run_arrays(*call), cuda.run_arrays(*call)
    for a, b in zip(first, second):
        assert np.array_equal(a.view(np.uint8), b.view(np.uint8)), f"{call[0]} gave other bits the second time"
    return first


STEPS = {
    step.__name__.replace("_", "-"): step
    for step in (
        environment, jittor, kernels, parity, training, accuracy, learning, bandwidth, speed, speed_training, speed_compiled,
    )
}  # fmt: skip
