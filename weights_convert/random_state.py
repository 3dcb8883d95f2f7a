"""Weights from names and shapes alone, so that golden files need not hold them. numpy only.

`np.random.RandomState` is used because NumPy has frozen its streams: the same name, shape and seed
give the same numbers with every NumPy. Nothing is left at zero or one (layer scales, biases, norms),
since such values hide errors.
"""

from __future__ import annotations

import math
import re
import zlib

import numpy as np

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # calibrated, never random
SAMPLES = 4096  # positions kept of a large map
SMALL = {
    "embed_dims": (8, 16, 24, 32),
    "depths": (1, 2, 1, 1),
    "num_classes": 10,
}  # gradients and constructor arguments
TINY = {"embed_dims": (4, 8, 12, 16), "depths": (1, 1, 2, 1), "num_classes": 7}  # the checkpoint files


def stream(name: str, seed: int = 0) -> np.random.RandomState:
    """A random stream that belongs to one name; other names and other seeds do not disturb it."""
    return np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode()))


def random_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """float32 tensors for every name that is not a BatchNorm statistic; official or Hugging Face names."""
    return {name: random_tensor(name, shape, seed) for name, shape in shapes.items() if not name.endswith(STATISTICS)}


def random_tensor(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """One tensor: the kind of layer is read from the name and the number of axes.

    Convolutions have the official deviation sqrt(2 / fan_out); the head is large enough for
    logits around 1; layer scales lie in 0.1 to 0.6 and norm weights in 0.5 to 1.5.
    """
    rng = stream(name, seed)
    if len(shape) == 4:
        groups = shape[0] if shape[1] == 1 else 1
        tensor = rng.standard_normal(shape) * math.sqrt(2 * groups / (shape[0] * shape[2] * shape[3]))
    elif len(shape) == 2:
        tensor = rng.standard_normal(shape) / math.sqrt(shape[1])
    elif "layer_scale" in name or "_scaling." in name:
        tensor = rng.uniform(0.1, 0.6, shape)
    elif name.endswith(".weight"):
        tensor = rng.uniform(0.5, 1.5, shape)
    else:
        tensor = rng.standard_normal(shape) * 0.1
    return np.asarray(tensor, np.float32)


def faint(state: dict[str, np.ndarray], scale: float = 3e-3) -> dict[str, np.ndarray]:
    """`state` with what each LayerNorm receives scaled down to a variance near 1e-5.

    Only there do the LayerNorm eps 1e-6 and 1e-5 give clearly different numbers. `state` has
    official or Hugging Face names.
    """
    before = re.compile(
        r"(patch_embed\d\.norm|.+\.embeddings\.normalization)\.(weight|bias)|.*(layer_scale_|_scaling\.).*"
    )
    return {k: np.asarray(v * np.float32(scale), np.float32) if before.fullmatch(k) else v for k, v in state.items()}


def positions(name: str, size: int) -> np.ndarray:
    """Indices into a flattened map of `size` values: all of a small map, else SAMPLES random ones."""
    return np.arange(size) if size <= SAMPLES else stream(name).randint(0, size, SAMPLES)


def official_shapes(
    embed_dims, depths, mlp_ratios=(8, 8, 4, 4), num_classes: int = 1000, in_chans: int = 3
) -> dict[str, tuple[int, ...]]:
    """Every name and shape of the official state dict, in its order, without `num_batches_tracked`.

    Source: models/van.py of the official code; recording asserts that both agree for B0 to B6.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    previous = in_chans
    for stage, (dim, depth, ratio) in enumerate(zip(embed_dims, depths, mlp_ratios), start=1):
        kernel = 7 if stage == 1 else 3
        _conv(shapes, f"patch_embed{stage}.proj", (dim, previous, kernel, kernel))
        _norm(shapes, f"patch_embed{stage}.norm", dim, batch=True)
        for index in range(depth):
            _block(shapes, f"block{stage}.{index}", dim, dim * ratio)
        _norm(shapes, f"norm{stage}", dim)
        previous = dim
    if num_classes:
        _conv(shapes, "head", (num_classes, previous))
    return shapes


def _block(shapes, name: str, dim: int, hidden: int) -> None:
    shapes[f"{name}.layer_scale_1"] = shapes[f"{name}.layer_scale_2"] = (dim,)
    _norm(shapes, f"{name}.norm1", dim, batch=True)
    _conv(shapes, f"{name}.attn.proj_1", (dim, dim, 1, 1))
    for conv, shape in (("conv0", (dim, 1, 5, 5)), ("conv_spatial", (dim, 1, 7, 7)), ("conv1", (dim, dim, 1, 1))):
        _conv(shapes, f"{name}.attn.spatial_gating_unit.{conv}", shape)
    _conv(shapes, f"{name}.attn.proj_2", (dim, dim, 1, 1))
    _norm(shapes, f"{name}.norm2", dim, batch=True)
    _conv(shapes, f"{name}.mlp.fc1", (hidden, dim, 1, 1))
    _conv(shapes, f"{name}.mlp.dwconv.dwconv", (hidden, 1, 3, 3))
    _conv(shapes, f"{name}.mlp.fc2", (dim, hidden, 1, 1))


def _conv(shapes, name: str, weight: tuple[int, ...]) -> None:
    shapes[f"{name}.weight"] = weight
    shapes[f"{name}.bias"] = weight[:1]


def _norm(shapes, name: str, dim: int, batch: bool = False) -> None:
    kinds = ("weight", "bias", "running_mean", "running_var") if batch else ("weight", "bias")
    shapes.update({f"{name}.{kind}": (dim,) for kind in kinds})
