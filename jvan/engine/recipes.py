"""Recipes: what a run of `jvan train` sets, as data, each with its command and what it is expected to reach."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import PurePath

from .config import TrainConfig

# What `--weights` sets for fine-tuning: a new head must learn fast on few pictures while the layers below change little.
FINE_TUNE = {
    "arch": None, "epochs": 10, "cooldown_epochs": 0, "usual_batch": 32, "base_lr": 3.2e-3, "layer_decay": 0.8,
    "weight_decay": 0.05, "mixup": 0.0, "cutmix": 0.0, "reprob": 0.0, "crop_scale": (0.25, 1.0), "clip_grad": 1.0,
}  # fmt: skip
SCRATCH = {}  # TrainConfig's defaults are the official train.py's


@dataclass(frozen=True)
class Recipe:
    """A row: `options` as typed, the measured or published top-1 in per cent (None: none is known), and its source."""

    name: str
    command: str
    top1: float | None
    source: str
    changes: dict = field(default_factory=dict)


RECIPES = ()


def make_config(given: dict) -> TrainConfig:
    """The configuration of `jvan train` with the options `given` by name; the rest is as the task wants it.

    With weights it is fine-tuning, without ImageNet's recipe. An explicit number of epochs has no cool-down,
    and warm-up never takes more than a tenth of them.
    """
    values = dict(FINE_TUNE if given.get("weights") else SCRATCH)
    values.update(given)
    config = TrainConfig(**values)
    if "epochs" in given:
        config = replace(config, cooldown_epochs=0)
    if config.output is None:
        config = replace(config, output=f"runs/{PurePath(config.data).name.partition('.')[0] or 'train'}")
    if "warmup_epochs" not in given:
        config = replace(config, warmup_epochs=min(config.warmup_epochs, config.epochs / 10))
    return config
