"""Load the original PyTorch code from a directory, with stand-ins for the libraries it imports by name.

The stand-ins (timm 0.4.12's layers, mmcv's norm builder, mmengine's loader) do what the originals do
for the few names that the networks use, so that nothing but torch has to be installed.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn


def without_extensions(name: str, subpackages: tuple[str, ...]) -> None:
    """Let modules of a package be imported without running its __init__, which wants other versions of torch."""
    spec = importlib.util.find_spec(name)
    for each in ("", *subpackages):
        package = types.ModuleType(name + each)
        package.__path__ = [spec.submodule_search_locations[0] + each.replace(".", "/")]
        sys.modules[name + each] = package


class DropPath(nn.Module):
    """timm's stochastic depth: in training a whole sample's branch is dropped, the others are scaled up."""

    def __init__(self, drop_prob: float = 0.0):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        if not self.training or not self.drop_prob:
            return x
        keep = 1 - self.drop_prob
        mask = (keep + torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), dtype=x.dtype, device=x.device)).floor_()
        return x.div(keep) * mask


class BaseModule(nn.Module):
    """mmcv.runner.BaseModule without its initialisation."""

    def __init__(self, init_cfg=None):
        super().__init__()


def official_module(directory):
    """The official classifier's `models/van.py` (Visual-Attention-Network/VAN-Classification)."""
    return _load(Path(directory) / "models" / "van.py", TIMM)


def official_van(directory, arch: str):
    """VAN-B0 to B6 as the official code builds it, in eval mode."""
    return getattr(official_module(directory), arch)().eval()


def official_custom(directory, *, norm_eps: float = 1e-6, **settings):
    """The official class `VAN` with other widths, depths, classes or channels, in eval mode."""
    settings = {"mlp_ratios": [8, 8, 4, 4], **settings}
    return official_module(directory).VAN(norm_layer=partial(nn.LayerNorm, eps=norm_eps), **settings).eval()


def official_from_config(directory, config):
    """The official network that a `jvan.variants.VANConfig` describes; ValueError where it has none."""
    if (config.kernel_size, config.dilation, config.stem_stride, config.gate) != (21, 3, 4, "multiply"):
        raise ValueError("the official code has no argument for the LKA's kernel, its gate or the stem's stride")
    return official_custom(
        directory,
        norm_eps=config.norm_eps,
        embed_dims=list(config.embed_dims),
        depths=list(config.depths),
        mlp_ratios=list(config.mlp_ratios),
        num_classes=config.num_classes,
        in_chans=config.in_chans,
    )


def segmentation_van(directory, **settings):
    """The backbone of VAN-Segmentation (`van.py`), in eval mode; it returns its four stage maps."""
    return _load(Path(directory) / "van.py", {**TIMM, **MMSEG}).VAN(**settings).eval()


def mmpretrain_converter(directory):
    """The function `convert_van(state_dict)` of mmpretrain's tools/model_converters/van2mmpretrain.py."""
    stand_ins = {"mmengine.runner": {"CheckpointLoader": None}}
    return _load(Path(directory) / "tools" / "model_converters" / "van2mmpretrain.py", stand_ins).convert_van


def stage_maps(model, pictures) -> tuple[list, torch.Tensor]:
    """The four maps after each stage's LayerNorm, (N, C, H, W), and the logits, of an official network."""
    sizes, maps, hooks = [], [], []
    for stage in range(1, 5):
        hooks.append(
            getattr(model, f"patch_embed{stage}").register_forward_hook(lambda m, i, out: sizes.append(out[1:]))
        )
        hooks.append(getattr(model, f"norm{stage}").register_forward_hook(lambda m, i, out: maps.append(out)))
    try:
        logits = model(pictures)
    finally:
        for hook in hooks:
            hook.remove()
    return [m.transpose(1, 2).unflatten(2, size) for m, size in zip(maps, sizes)], logits


def settings_of(model) -> dict:
    """Widths and depths of an official network, as `random_state.official_shapes` takes them."""
    dims = [getattr(model, f"norm{stage}").normalized_shape[0] for stage in range(1, 5)]
    return {"embed_dims": dims, "depths": model.depths}


TIMM = {
    "timm.models.layers": {
        "DropPath": DropPath,
        "to_2tuple": lambda value: value if isinstance(value, tuple) else (value, value),
        "trunc_normal_": nn.init.trunc_normal_,
    },
    "timm.models.registry": {"register_model": lambda builder: builder},
    "timm.models.vision_transformer": {"_cfg": lambda url="", **settings: {"url": url, **settings}},
}
MMSEG = {
    "mmcv.cnn": {"build_norm_layer": lambda cfg, width: ("bn", nn.BatchNorm2d(width))},
    "mmcv.cnn.utils.weight_init": dict.fromkeys(("constant_init", "normal_init", "trunc_normal_init")),
    "mmcv.runner": {"BaseModule": BaseModule},
    "mmseg.models.builder": {"BACKBONES": types.SimpleNamespace(register_module=lambda: lambda cls: cls)},
}


def _load(path: Path, stand_ins: dict[str, dict]):
    """Execute a Python file as a module; the stand-ins can be imported while it is loaded and not afterwards."""
    if not path.is_file():
        raise FileNotFoundError(2, "the original code is not there (see weights_convert/README.md)", str(path))
    spec = importlib.util.spec_from_file_location(f"original_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    with importable(stand_ins):
        spec.loader.exec_module(module)
    return module


def importable(stand_ins: dict[str, dict]):
    """A context in which modules with these contents, and their parents, can be imported."""
    modules = {}
    for name, contents in stand_ins.items():
        for end in (i for i, c in enumerate(name + ".") if c == "."):
            modules.setdefault(name[:end], types.ModuleType(name[:end]))
        vars(modules[name]).update(contents)
    return patch.dict(sys.modules, modules)
