"""The PyTorch half of verify.py, in its own process: Jittor and torch do not share one.

python -m weights_convert.run_original make DIR ARCH FILE       a checkpoint of random, calibrated weights
python -m weights_convert.run_original run DIR REQUEST ANSWER   stage maps and logits, exchanged as .npz
"""

from __future__ import annotations

import argparse
import json
import sys
from types import SimpleNamespace

import numpy as np
import torch

from .calibration import calibrate
from .original import official_from_config, official_van, settings_of
from .random_state import official_shapes, random_state
from .recording import fill, run


def make(directory: str, arch: str, path: str) -> None:
    """Save VAN `arch` with random weights and calibrated statistics, laid out like the published files."""
    model = official_van(directory, arch)
    fill(model, random_state(official_shapes(**settings_of(model))))
    calibrate(model)
    torch.save({"arch": arch, "state_dict": model.state_dict(), "args": argparse.Namespace(model=arch)}, path)


def answer(directory: str, request: str, path: str) -> None:
    """Run the official network on every picture of `request`.

    The weights are those in the request, or, where it names a `source`, that file's as torch reads them.
    """
    with np.load(request) as archive:
        config = json.loads(str(archive["config"]))
        source = str(archive["source"])
        pictures = {k: archive[k] for k in archive.files if k.startswith("picture/")}
        state = {k[6:]: torch.from_numpy(archive[k]) for k in archive.files if k.startswith("state/")}
    model = official_from_config(directory, SimpleNamespace(**config))
    load(model, _published(source) if source else state)
    answers = {}
    for key, picture in pictures.items():
        outputs = run(model, torch.from_numpy(picture))
        if not config["num_classes"]:
            del outputs["logits"]  # a backbone's: the pooled features
        answers.update({f"{key}/{name}": values for name, values in outputs.items()})
    np.savez(path, **answers)


def load(model, state: dict) -> None:
    """`strict=True` but for the counters that the original never uses in eval mode."""
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_state_dict({**counters, **state}, strict=True)


def _published(path: str) -> dict:
    with torch.serialization.safe_globals([argparse.Namespace]):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    return checkpoint.get("state_dict", checkpoint)


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    {"make": make, "run": answer}[sys.argv[1]](*sys.argv[2:])
