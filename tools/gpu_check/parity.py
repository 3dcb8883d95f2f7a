"""Whether a whole network computes on a GPU what it computes on the CPU: a step of `python -m tools.gpu_check`."""

from __future__ import annotations

import warnings

import jittor as jt
import numpy as np
from jittor import nn

from jvan._say import show
from jvan.benchmarking.machine import random_weights
from jvan.inference.fused.gpu import GPUInferenceVAN
from jvan.inference.optimize import optimize_for_inference
from jvan.models.factory import build
from jvan.models.loading import assign
from jvan.ops.cuda import launch as cuda
from jvan.ops.cuda.backend import GPU
from jvan.variants import variant_config

from .task import TINY

INFERENCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 3e-2}  # of the largest logit
# Of each one's norm. Rounding alone costs PyTorch on the CPU 3e-5 in float32, and 3e-2 in bfloat16 by autocast (VAN-B0 and B2
# with these weights, two pictures of 224×224; the dilated depthwise weights of stage 1, which it gets wrong, left out).
GRADIENTS = {"float32": 2e-3, "float16": 2e-2, "bfloat16": 1e-1}
LOSS_SCALE = {"float32": 1.0, "float16": 1024.0, "bfloat16": 1.0}


def parity(task):
    """Logits of the plain and of the folded network, and a training step's gradients, in every precision against the CPU's float32.

    With the weights of a benchmark: a fresh network's layer scales of 0.01 would hide what goes wrong inside its blocks.
    """
    found = {}
    for name, size in (("tiny", 64),) if task.dry_run else (("van_b0", 224), ("van_b2", 224)):
        config = TINY if task.dry_run else variant_config(name)
        model = build(config)
        assign(model, random_weights(config))
        x = np.random.RandomState(0).standard_normal((2, 3, size, size)).astype(np.float32)
        found[name] = {**_logits(model, x, task.use_cuda), **_gradients(model, x, task.use_cuda)}
        task.save({"ok": False, "results": found})
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
        show(f"{name}: {row['error']:.3g}, allowed {row['allowed']} {row.get('worst', '')}".rstrip())
    return found


def on(use_cuda, function):
    with jt.flag_scope(use_cuda=use_cuda):
        return function()


def on_cpu(function):
    """On the CPU, whatever stands in for the GPU."""
    with cuda.use_backend(GPU()):
        return on(0, function)
