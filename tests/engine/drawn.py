"""Small data sets drawn from a seed, and the command that trains the smallest network on them.

A VAN has four stages, and none may be without a block (variants.py refuses it), so the smallest network has four. A step of
it, on 12 pictures, takes 30 ms on a core that nobody else uses.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SMALLEST = "van_b0:embed_dims=8,8,8,8:depths=1,1,1,1:mlp_ratios=2,2,2,2:stem_stride=1"
OPTIONS = ("--arch", SMALLEST, "--img-size", "32", "--batch-size", "12", "--drop-path", "0.3", "--model-ema", "0.9")


def draw_folder(folder: Path, classes=("ant", "bee", "cat"), each: int = 16, seed: int = 0) -> Path:
    """A folder a class; every class has a colour of its own under noise, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(each):
            pixels = rng.integers(0, 120, (36, 40, 3))
            pixels[..., label % 3] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index:03d}.png")
    return folder


def command(*arguments, ranks: int = 0) -> list[str]:
    """`python -m jvan.train …`, under `mpirun` where `ranks` is given."""
    run = [sys.executable, "-m", "jvan.train", *map(str, arguments)]
    return ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", str(ranks), *run] if ranks else run


def start(*arguments, ranks: int = 0, **options) -> subprocess.Popen:
    """The trainer as a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        command(*arguments, ranks=ranks), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, **options,
    )  # fmt: skip


def run(*arguments, **options) -> str:
    """Train to the end; what was printed."""
    process = start(*arguments, **options)
    printed, _ = process.communicate(timeout=560)
    assert process.returncode == 0, printed
    return printed
