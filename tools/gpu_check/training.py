"""Whether `jvan train` learns and goes on after a stop, in every precision: a step of `python -m tools.gpu_check`."""

from __future__ import annotations

import csv
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from jvan._say import show

from .parity import INFERENCE

FALLS = 0.7  # of the first losses: what the last ones may be
# Of how far the second half of a run moved the weights: by how much the weights of a run that was stopped and resumed may
# differ. Jittor's own sums on a GPU need not come in the same order twice, so that the bits may differ.
RESUMED = 0.1
SMALLEST = "van_b0:embed_dims=8,8,8,8:depths=1,1,1,1:mlp_ratios=2,2,2,2"  # of a dry run, whose kernels are slow


def training(task):
    """`jvan train` in every precision on drawn pictures: the loss falls, and a run that was stopped half-way ends as one that was not."""
    found, folder = {}, Path(tempfile.mkdtemp(prefix="jvan-gpu-check-"))
    try:
        draw_pictures(folder / "data", each=4 if task.dry_run else 32, size=32)
        for dtype in ("float16",) if task.dry_run else INFERENCE:
            found[dtype] = _trained(folder, dtype, task.dry_run)
            show(f"{dtype}: {found[dtype]}")
            task.save({"ok": False, "runs": found})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    falls = task.dry_run or all(row["last loss"] < FALLS * row["first loss"] for row in found.values())
    return {"ok": falls and all(row["resumed differs"] <= RESUMED for row in found.values()), "runs": found}


def _trained(folder, dtype, dry_run):
    given = {
        "data": str(folder / "data"), "img_size": 32, "workers": 0, "dtype": dtype, "log_every": 1, "aa": None, "mixup": 0.0,
        "cutmix": 0.0, "reprob": 0.0, "lr": 1e-3, "batch_size": 4 if dry_run else 32, "epochs": 2 if dry_run else 10,
        "arch": SMALLEST if dry_run else "van_b0:stem_stride=1",
        "device": "cpu" if dry_run else "cuda",
    }  # fmt: skip
    losses, skipped, whole = _train(folder / f"{dtype}-whole", given)
    steps, some = len(losses), max(1, len(losses) // 10)
    *_, half = _train(folder / f"{dtype}-parts", {**given, "max_steps": steps // 2})
    *_, parts = _train(folder / f"{dtype}-parts", {**given, "resume": True})
    return {
        "steps": steps,
        "first loss": float(np.mean(losses[:some])),
        "last loss": float(np.mean(losses[-some:])),
        "skipped": skipped,
        **resumed(whole, half, parts),
    }


def resumed(whole, half, parts) -> dict:
    """How a resumed run's last weights differ from those of the whole run, against what changed from its middle on."""
    learned = [name for name in whole if ".running_" not in name]
    gap, moved = (np.sqrt(sum(np.sum((whole[n] - other[n]) ** 2.0) for n in learned)) for other in (parts, half))
    same = all(whole[name].tobytes() == parts[name].tobytes() for name in whole)
    return {"same bits": same, "resumed differs": float(gap / moved) if np.isfinite(gap) else float("inf")}


def _train(output, given):
    """(losses, steps skipped, the last weights) of a run."""
    from jvan.checkpoints.state import load_state
    from jvan.classification.task import TASK
    from jvan.engine.loop import train

    said = []
    train(TASK.make_config({**given, "output": str(output)}), said.append)
    with open(output / "log.csv", newline="", encoding="utf-8") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    skipped = sum("overflow float16" in line for line in said)
    return losses, skipped, load_state(output / "last.safetensors").tensors


def draw_pictures(folder: Path, each: int, size: int, names=("along", "across")) -> None:
    """train/ and val/ of two classes that a glance tells apart: stripes along and across, of random colours and widths."""
    rng = np.random.RandomState(0)
    for part, count in (("train", each), ("val", 2)):
        for axis, name in enumerate(names):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                wave = np.sin(np.arange(size) * rng.uniform(0.5, 1.5) + rng.uniform(0, 6))
                stripes = (
                    np.broadcast_to(np.expand_dims(wave, axis), (size, size))[..., None] * rng.uniform(40, 120, 3) + 128
                )
                Image.fromarray(stripes.astype(np.uint8)).save(folder / part / name / f"{i}.png")
