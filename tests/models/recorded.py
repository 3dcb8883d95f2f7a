"""The recordings of the original PyTorch code, and networks that carry the same weights."""

from __future__ import annotations

from pathlib import Path

import jittor as jt
import numpy as np
from PIL import Image

from jvan.models import build
from jvan.models.loading import assign
from jvan.variants import VANConfig
from weights_convert.random_state import official_shapes, random_state

GOLDEN = Path(__file__).parents[1] / "golden"
PICTURES = {"224x224": "chelsea_224x224.png", "193x257": "coffee_193x257.png"}


def recording(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as archive:
        return dict(archive)


def picture(size: str) -> jt.Var:
    with Image.open(GOLDEN / PICTURES[size]) as image:
        return to_input(np.asarray(image)[None])


def to_input(pictures: np.ndarray) -> jt.Var:
    """uint8 (N, H, W, C) -> the input (N, C, H, W) that the recordings were made with."""
    pixels = np.moveaxis(pictures, -1, 1).astype(np.float32) / np.float32(255)
    return jt.array((pixels - np.float32(0.5)) / np.float32(0.5))


def section(golden: dict, prefix: str) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: value for name, value in golden.items() if name.startswith(prefix)}


def network(config: VANConfig, statistics: dict[str, np.ndarray], adjust=dict, **options):
    """The network with the recording's random weights and calibrated BatchNorm statistics."""
    shapes = official_shapes(config.embed_dims, config.depths, config.mlp_ratios, config.num_classes, config.in_chans)
    model = build(config, **options)
    tensors = {**adjust(random_state(shapes)), **statistics}
    assign(model, tensors)
    return model


def error(ours, theirs: np.ndarray) -> float:
    """The largest difference, as a share of the largest recorded value."""
    ours = np.asarray(ours, np.float64).reshape(theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
