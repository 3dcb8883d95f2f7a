"""What the recording scripts share: fill a network, run it, report its rounding errors, save what is finite."""

from __future__ import annotations

import numpy as np
import torch

from .calibration import GOLDEN
from .original import stage_maps


def fill(model, state: dict[str, np.ndarray]) -> None:
    """Load every parameter; only BatchNorm's statistics may be missing."""
    result = model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    wrong = result.unexpected_keys + [k for k in result.missing_keys if k in dict(model.named_parameters())]
    if wrong:
        raise ValueError(f"the random state and the original network differ in {wrong}")


def statistics(model) -> dict[str, np.ndarray]:
    """`statistics/<name>` of every running mean and variance."""
    return {f"statistics/{k}": v.numpy().copy() for k, v in model.state_dict().items() if "running_" in k}


def run(model, pictures, dtype=torch.float32) -> dict[str, np.ndarray]:
    """`stage1` to `stage4` and `logits` computed in `dtype`; the model is float32 again afterwards."""
    with torch.no_grad():
        maps, logits = stage_maps(model.to(dtype), pictures.to(dtype))
    model.float()
    return {**named_maps(maps), "logits": logits.numpy()}


def named_maps(maps) -> dict[str, np.ndarray]:
    return {f"stage{stage}": m.contiguous().numpy() for stage, m in enumerate(maps, start=1)}


def report(title: str, model, pictures) -> dict[str, np.ndarray]:
    """`run` in float32, after printing each output's size and what float32 costs the original code itself."""
    single, exact = run(model, pictures), run(model, pictures, torch.float64)
    line = [
        f"{np.abs(exact[k]).max():7.3g} {np.abs(single[k] - exact[k]).max() / np.abs(exact[k]).max():7.1e}"
        for k in exact
    ]
    print(f"{title:16s} largest value, float32 error / largest: " + " | ".join(line))
    return single


def save(name: str, arrays: dict) -> None:
    """Write NAME.npz after a check that every number is finite."""
    arrays = {key: np.asarray(value) for key, value in arrays.items()}
    bad = [key for key, value in arrays.items() if not np.isfinite(value).all()]
    if bad:
        raise ValueError(f"{name}: not finite: {bad}")
    np.savez_compressed(GOLDEN / f"{name}.npz", **arrays)
