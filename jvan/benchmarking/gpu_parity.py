"""Whether a whole network computes on a GPU what it computes on the CPU: two steps of `python -m jvan.gpu_check`."""

from __future__ import annotations

import csv
import shutil
import tempfile
import warnings
from pathlib import Path

import jittor as jt
import numpy as np
from jittor import nn
from PIL import Image

from ..inference.on_gpu import GPUInferenceVAN
from ..inference.optimize import optimize_for_inference
from ..models.factory import create_model
from ..ops.cuda import run as cuda

TINY = {"embed_dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1)}
INFERENCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 3e-2}  # of the largest logit
GRADIENTS = {"float32": 2e-2, "float16": 5e-2, "bfloat16": 2.5e-1}  # of each one's norm
LOSS_SCALE = {"float32": 1.0, "float16": 1024.0, "bfloat16": 1.0}


def parity(dry_run):
    """Logits of the plain and of the folded network, and a training step's gradients, in every precision against the CPU's float32."""
    found = {}
    for arch, size in (("van_b0", 64),) if dry_run else (("van_b0", 224), ("van_b2", 224)):
        jt.set_global_seed(0)
        model = create_model(arch, num_classes=10, **(TINY if dry_run else {}))
        x = np.random.RandomState(0).standard_normal((2, 3, size, size)).astype(np.float32)
        found[arch] = {**_logits(model, x, int(not dry_run)), **_gradients(model, x, int(not dry_run))}
    rows = [row for results in found.values() for row in results.values()]
    return {"ok": all(row["error"] <= row["allowed"] for row in rows), "results": found}


def _logits(model, x, use_cuda):
    model.eval()
    expected = on_cpu(lambda: model(jt.array(x)).numpy())
    found = {"plain float32": _row(on(use_cuda, lambda: model(jt.array(x)).numpy()), expected, INFERENCE["float32"])}
    for dtype, allowed in INFERENCE.items():
        found[f"folded {dtype}"] = _row(
            on(use_cuda, lambda dtype=dtype: folded(model, dtype)(jt.array(x)).numpy()), expected, allowed
        )
    return _told(found)


def folded(model, dtype):
    """The folded network on the GPU, and nothing in its place."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the plain network in its place would be a failure here
        network = optimize_for_inference(model, dtype)
    assert type(network) is GPUInferenceVAN
    return network


def _gradients(model, x, use_cuda):
    expected = on_cpu(lambda: _training_step(model, x, "float32"))
    found = {}
    for dtype, allowed in GRADIENTS.items():
        ours = on(use_cuda, lambda dtype=dtype: _training_step(model, x, dtype))
        rows = {name: _row(ours[name], value, allowed, norm=True) for name, value in expected.items()}
        name = max(rows, key=lambda name: rows[name]["error"])
        found[f"gradients {dtype}"] = {**rows[name], "worst": name}
    return _told(found)


def _training_step(model, x, dtype):
    """{parameter: its gradient} but for the biases before a BatchNorm, whose true gradient is zero."""
    model.train()
    loss = nn.cross_entropy_loss(model(cuda.rounded(jt.array(x), dtype)), jt.array([1, 2])) * LOSS_SCALE[dtype]
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad and not name.endswith("proj.bias")}
    gradients = jt.grad(loss, list(learned.values()))
    return {name: gradient.numpy() / LOSS_SCALE[dtype] for name, gradient in zip(learned, gradients)}


def _row(ours, expected, allowed, norm=False):
    size = np.linalg.norm if norm else lambda values: np.abs(values).max()
    error = float(size(ours - expected) / max(size(expected), 1e-12)) if np.isfinite(ours).all() else float("inf")
    return {"error": error, "allowed": allowed}


def _told(found):
    for name, row in found.items():
        print(f"{name}: {row['error']:.3g}, allowed {row['allowed']} {row.get('worst', '')}".rstrip(), flush=True)
    return found


def training(dry_run):
    """`jvan train` in every precision on drawn pictures: the loss falls, and a run that was stopped half-way ends with the same bits."""
    found, folder = {}, Path(tempfile.mkdtemp(prefix="jvan-gpu-check-"))
    try:
        draw_pictures(folder / "data", each=4 if dry_run else 32, size=32)
        for dtype in ("float16",) if dry_run else INFERENCE:
            found[dtype] = _trained(folder, dtype, dry_run)
            print(f"{dtype}: {found[dtype]}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    falls = dry_run or all(row["last loss"] < 0.7 * row["first loss"] for row in found.values())
    return {"ok": falls and all(row["resumes"] for row in found.values()), "runs": found}


def _trained(folder, dtype, dry_run):
    given = {
        "data": str(folder / "data"), "img_size": 32, "workers": 0, "dtype": dtype, "log_every": 1, "aa": None, "mixup": 0.0,
        "cutmix": 0.0, "reprob": 0.0, "lr": 1e-3, "batch_size": 4 if dry_run else 32, "epochs": 2 if dry_run else 10,
        "arch": "van_b0:stem_stride=1" + (":embed_dims=8,8,8,8:depths=1,1,1,1:mlp_ratios=2,2,2,2" if dry_run else ""),
        "device": "cpu" if dry_run else "cuda",
    }  # fmt: skip
    whole = _train(folder / f"{dtype}-whole", given)
    steps = len(whole["losses"])
    _train(folder / f"{dtype}-parts", {**given, "max_steps": steps // 2})
    parts = _train(folder / f"{dtype}-parts", {**given, "resume": True})
    some = max(1, steps // 10)
    first, last = whole["losses"][:some], whole["losses"][-some:]
    return {
        "steps": steps,
        "first loss": float(np.mean(first)),
        "last loss": float(np.mean(last)),
        "skipped": whole["skipped"],
        "resumes": whole["weights"] == parts["weights"],
    }


def _train(output, given):
    from ..checkpoints.state import load_state
    from ..engine.loop import train
    from ..engine.recipes import make_config

    said = []
    train(make_config({**given, "output": str(output)}), said.append)
    with open(output / "log.csv", newline="", encoding="utf-8") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    skipped = sum("overflow float16" in line for line in said)
    weights = {name: array.tobytes() for name, array in load_state(output / "last.safetensors").tensors.items()}
    return {"losses": losses, "skipped": skipped, "weights": weights}


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


def on(use_cuda, function):
    with jt.flag_scope(use_cuda=use_cuda):
        return function()


def on_cpu(function):
    """On the CPU, whatever stands in for the GPU."""
    with cuda.emulated(None):
        return on(0, function)
