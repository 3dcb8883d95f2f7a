"""tools/measure/gpu_floor.py: its table is the page's, and what it counts is what an emulated network does."""

from dataclasses import replace
from pathlib import Path

import jittor as jt
import numpy as np

from jvan.inference.fused.gpu import GPUInferenceVAN
from jvan.inference.optimize import optimize_for_inference
from jvan.models.factory import build
from jvan.ops.cuda import launch as cuda
from jvan.ops.cuda.operators import OPERATORS
from jvan.variants import VANConfig
from tools.cuda_emulator.backend import Emulated
from tools.measure import gpu_floor

CONFIG = VANConfig(embed_dims=(8, 16, 8, 24), depths=(1, 2, 1, 1), num_classes=10)


def test_the_page_has_the_table():
    page = Path(gpu_floor.__file__).parents[2].joinpath("docs", "performance.md").read_text(encoding="utf-8")
    assert "\n".join(gpu_floor.rows()) in page


def test_inference_moves_and_launches_what_is_counted(emulator, monkeypatch):
    """All but the products, which cuBLAS makes, of a network without a head."""
    calls, run = [], emulator.run

    def noted(name, types, inputs, shapes, numbers):
        sizes = [a.size for a in inputs] + [np.prod(s) for s in shapes]
        letters = OPERATORS[name].inputs + OPERATORS[name].outputs
        if name == "depthwise_gelu":  # in inference its second output is a place-holder
            assert numbers["keep"] == 0
            letters = letters[:-1]
        calls.append((name, sum(size for size, letter in zip(sizes, letters) if letter == "T")))
        return run(name, types, inputs, shapes, numbers)

    model = build(replace(CONFIG, num_classes=0))
    model.eval()
    with cuda.use_backend(Emulated(emulator)):
        fast = optimize_for_inference(model)
        assert type(fast) is GPUInferenceVAN
        monkeypatch.setattr(emulator, "run", noted)
        fast(jt.array(np.zeros((1, 3, 32, 32), np.float32))).sync()
    counted = [op for op in gpu_floor.operators(CONFIG, 32, "jvan", False) if op.kind != "product" and op.elements]
    assert len(calls) == sum(op.launches for op in counted)
    for kind, names in {"gather": ["gather_patches"], "dw3": ["depthwise_gelu"], "pass": ["bias", "bias_gate", "shortcut", "layer_norm"]}.items():  # fmt: skip
        moved = sum(elements for name, elements in calls if name in names)
        assert moved == sum(op.elements for op in counted if op.kind == kind), kind


def test_parameters_are_counted():
    total, tensors = gpu_floor.parameters(CONFIG)
    learned = [p for name, p in build(CONFIG).named_parameters() if ".running_" not in name]
    assert (total, tensors) == (sum(p.numel() for p in learned), len(learned))
