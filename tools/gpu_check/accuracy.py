"""What 16 bits cost in accuracy, on labelled pictures: two steps of `python -m tools.gpu_check`."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import jittor as jt
import numpy as np

from jvan._say import show
from jvan.data.source import open_split
from jvan.inference.optimize import optimize_for_inference
from jvan.models.factory import create_model
from jvan.pictures.preprocess import preprocess
from jvan.tasks import BUNDLED

from .parity import INFERENCE, folded, on, on_cpu
from .training import SMALLEST, draw_pictures

EACH = 50  # pictures a class in a dry run: the emulator is slow
BATCH = 100
FEWER = 0.005  # of the pictures: by how many another device or precision may have fewer right
LEARNT = 0.4  # top-1 after the short training in float32: ten classes by chance give 0.1
FALLS = 0.04  # by how much it may be lower in 16 bits: a run ends elsewhere with every rounding


def accuracy(task):
    """The bundled network's answers on CIFAR-10's test pictures in every precision, against the CPU's in float32.

    A dry run takes some of them, or without data drawn ones.
    """
    with tempfile.TemporaryDirectory(prefix="jvan-gpu-check-") as folder:
        data = task.data
        if data is None:
            data = Path(folder) / "data"
            draw_pictures(data, each=1, size=32, names=("cat", "dog"))
        found = _answers(str(data), EACH if task.dry_run else None, task.use_cuda)
    least = found["cpu"]["right"] - FEWER * found["cpu"]["of"]
    fits = [found[t]["right"] >= least and found[t]["difference"] <= allowed for t, allowed in INFERENCE.items()]
    return {"ok": all(fits), "answers": found}


def _answers(data, each, use_cuda):
    model = create_model(weights=BUNDLED).eval()
    pictures, labels = _pictures(open_split(data, "val").with_classes(model.metadata.labels), model.metadata, each)
    expected = on_cpu(lambda: _logits(optimize_for_inference(model), pictures))
    found = {"cpu": {"right": int((expected.argmax(1) == labels).sum()), "of": len(labels)}}
    show(f"float32 on the CPU: {found['cpu']}")
    for dtype in INFERENCE:
        logits = on(use_cuda, lambda dtype=dtype: _logits(folded(model, dtype), pictures))
        right, same = (int((logits.argmax(1) == others).sum()) for others in (labels, expected.argmax(1)))
        difference = float(np.abs(logits - expected).max() / np.abs(expected).max())
        found[dtype] = {"right": right, "same": same, "of": len(labels), "difference": difference}
        show(f"{dtype}: {found[dtype]}")
    return found


def _pictures(split, metadata, each):
    """(N, 3, H, W), prepared, and the labels: of the first `each` pictures of every class, or with None of all."""
    chosen = [np.flatnonzero(split.labels == label)[:each] for label in range(len(split.classes))]
    chosen = np.sort(np.concatenate(chosen))
    return np.stack([preprocess(split.picture(i), metadata.preprocessing) for i in chosen]), split.labels[chosen]


def _logits(network, pictures):
    return np.concatenate([network(jt.array(pictures[i : i + BATCH])).numpy() for i in range(0, len(pictures), BATCH)])


def learning(task):
    """Top-1 on CIFAR-10 after two epochs from scratch in every precision; a dry run makes two small steps on drawn pictures."""
    with tempfile.TemporaryDirectory(prefix="jvan-gpu-check-") as folder:
        data = Path(folder) / "data" if task.dry_run else task.data
        if task.dry_run:
            draw_pictures(data, each=4, size=32)
        found = {dtype: _learnt(str(data), Path(folder) / dtype, dtype, task.dry_run) for dtype in INFERENCE}
    least = max(LEARNT, found["float32"] - FALLS)
    return {"ok": task.dry_run or all(top1 >= least for top1 in found.values()), "top1": found}


def _learnt(data, output, dtype, dry_run):
    from jvan.classification.recipes import SMALL_VAN
    from jvan.classification.task import TASK
    from jvan.engine.loop import train

    given = {
        "data": data, "output": str(output), "arch": SMALLEST if dry_run else SMALL_VAN, "img_size": 32, "batch_size": 4 if dry_run else 128,
        "epochs": 1 if dry_run else 2, "lr": 3e-3, "drop_path": 0.0, "mixup": 0.0, "cutmix": 0.0, "aa": None, "reprob": 0.0,
        "clip_grad": 1.0, "workers": 0 if dry_run else 8, "dtype": dtype, "device": "cpu" if dry_run else "cuda",
    }  # fmt: skip
    train(TASK.make_config(given), show)
    with open(output / "validation.csv", newline="", encoding="utf-8") as file:
        top1 = float(list(csv.DictReader(file))[-1]["top1"])
    show(f"{dtype}: top-1 {top1}")
    return top1
