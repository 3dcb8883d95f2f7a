"""Pictures as the network's input, and BatchNorm statistics that fit them.

With statistics that do not normalise, the LKA squares its input in every block and VAN-B2 to B6
overflow. So random networks take their statistics from one pass over real pictures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .random_state import stream

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
PICTURES = ("chelsea_224x224.png", "coffee_193x257.png", "rocket_224x224.png")  # height x width


def read_picture(name) -> np.ndarray:
    """(H, W, 3) uint8, from tests/golden or from a path."""
    with Image.open(GOLDEN / name) as picture:
        return np.asarray(picture.convert("RGB"))


def to_input(pictures: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, C) -> float32 (N, C, H, W), (x / 255 - 0.5) / 0.5 in float32: the official ImageNet-1K scaling."""
    scaled = (pictures.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))


def calibrate(model, seed: int = 0, in_chans: int = 3) -> None:
    """Set every BatchNorm's statistics from real pictures, then move them by up to a fifth (seeded by name).

    The pass is in train mode with cumulative averaging over one batch, so a layer sees what the
    layers before it normalised. The model is left in eval mode with momentum 0.1.
    """
    norms = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    with torch.no_grad():
        model(_batch(in_chans).to(next(model.parameters()).dtype))
    model.eval()
    for name, norm in norms.items():
        rng = stream(f"{name}.statistics", seed)
        norm.momentum = 0.1
        norm.running_mean += torch.from_numpy(rng.uniform(-0.2, 0.2, norm.num_features)) * norm.running_var.sqrt()
        norm.running_var *= torch.from_numpy(rng.uniform(0.8, 1.2, norm.num_features))


def _batch(in_chans: int) -> torch.Tensor:
    """The three pictures whole and their middles, each also mirrored, at 224 x 224: 12 inputs."""
    views = []
    for name in PICTURES:
        with Image.open(GOLDEN / name) as picture:
            width, height = picture.size
            middle = (width // 5, height // 5, width - width // 5, height - height // 5)
            for box in ((0, 0, width, height), middle):
                view = np.asarray(picture.convert("RGB").resize((224, 224), Image.BICUBIC, box))
                views += [view, view[:, ::-1]]
    return to_input(with_channels(np.stack(views), in_chans))


def with_channels(pictures: np.ndarray, in_chans: int) -> np.ndarray:
    """(N, H, W, 3) -> (N, H, W, in_chans): the further channels repeat the colours upside down."""
    extra = np.concatenate([pictures[:, ::-1]] * (in_chans // 3), -1)
    return np.concatenate([pictures, extra], -1)[..., :in_chans]
