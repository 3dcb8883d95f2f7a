"""Check the .pth and .safetensors files that jvan writes with PyTorch itself and the original projects' code.

    python -m weights_convert.verify_written VAN-Classification [--arch van_b0 …] [--segmentation VAN-Segmentation]

It needs torch and transformers 4.x, and no Jittor. For every size a random state is written under each origin's names;
torch.load(weights_only=True) must read it, the official code, transformers and the segmentation code must take it with
strict=True, and the logits of the first two must agree, which shows that the names mean the same layers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import VanConfig, VanForImageClassification, VanModel

from jvan.checkpoints.metadata import Metadata
from jvan.checkpoints.names.architecture import parameter_shapes
from jvan.checkpoints.state import State
from jvan.checkpoints.writers import save_state
from jvan.variants import VARIANTS, variant_config

from .original import official_van, segmentation_van

BAR = 1e-5  # of the largest logit; both run the same operations


def random_state(config) -> State:
    """Small weights around identity, so that no activation overflows even in B6."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in parameter_shapes(config).items():
        scale = 0.5 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.05
        array = rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        tensors[name] = 1 + array if name.endswith(("running_var", "norm1.weight", "norm2.weight")) else array
    return State(tensors, Metadata(config))


def check(arch: str, folder: Path, options) -> list[str]:
    config = variant_config(arch)
    state = random_state(config)
    for origin in ("official", "mmpretrain", "huggingface"):
        save_state(state, folder / f"{origin}.pth", to_origin=origin)
    headless = {name: array for name, array in state.tensors.items() if not name.startswith("head.")}
    bare = State(headless, Metadata(variant_config(arch, num_classes=0)))
    save_state(bare, folder / "backbone.pth", to_origin="official")
    save_state(bare, folder / "base.pth", to_origin="huggingface")
    settings = {"hidden_sizes": config.embed_dims, "depths": config.depths, "mlp_ratios": config.mlp_ratios}
    theirs = VanConfig(num_labels=config.num_classes, **settings)
    picture = torch.randn(1, 3, 96, 64)
    logits = loaded(official_van(options.official, arch), folder / "official.pth", "state_dict")(picture)
    found = loaded(VanForImageClassification(theirs), folder / "huggingface.pth")(picture).logits
    loaded(VanModel(theirs), folder / "base.pth")
    error = float((logits - found).abs().max() / logits.abs().max())
    assert torch.isfinite(logits).all() and error < BAR, (arch, error)
    lines = [f"{arch}: official and Hugging Face's code load strictly; their logits differ by {error:.1e}"]
    lines.append(f"{arch}: {check_pretrained(state, theirs, folder)}")
    if options.segmentation:
        shape = {"embed_dims": list(config.embed_dims), "mlp_ratios": list(config.mlp_ratios)}
        backbone = segmentation_van(options.segmentation, depths=list(config.depths), **shape)
        loaded(backbone, folder / "backbone.pth", "state_dict")
        lines.append(f"{arch}: VAN-Segmentation's code loads strictly")
    return lines


def check_pretrained(state: State, config: VanConfig, folder: Path) -> str:
    """transformers' from_pretrained on a folder with our model.safetensors: nothing missing, nothing left over."""
    target = folder / "pretrained"
    target.mkdir()
    config.save_pretrained(target)
    save_state(state, target / "model.safetensors", to_origin="huggingface")
    _, info = VanForImageClassification.from_pretrained(target, output_loading_info=True)
    assert not any(info.values()), info
    return "from_pretrained takes model.safetensors whole"


def loaded(model, path: Path, key: str | None = None):
    checkpoint = torch.load(path, weights_only=True)
    model.load_state_dict(checkpoint[key] if key else checkpoint, strict=True)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("official", type=Path, help="a checkout of VAN-Classification")
    parser.add_argument("--segmentation", type=Path, help="a checkout of VAN-Segmentation")
    parser.add_argument("--arch", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    with torch.no_grad():
        for arch in options.arch:
            with tempfile.TemporaryDirectory() as folder:
                print("\n".join(check(arch, Path(folder), options)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
