"""Recipes: what a run of `jvan train` sets, as data, each with its command and what it is expected to reach."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import PurePath

# What --weights sets for fine-tuning: a new head must learn fast on few pictures while the layers below change little.
FINE_TUNE = {
    "epochs": 10, "cooldown_epochs": 0, "usual_batch": 32, "base_lr": 3.2e-3, "layer_decay": 0.8,
    "mixup": 0.0, "cutmix": 0.0, "reprob": 0.0, "crop_scale": (0.25, 1.0), "clip_grad": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A task: its command, the top-1 in per cent that it is known to reach (None: not measured), and who says so.

    `sets` are entries of ClassificationConfig that the command comes to, for those that the defaults or weights decide.
    """

    name: str
    command: str
    top1: float | None
    source: str
    sets: dict = field(default_factory=dict)


IMAGENET = {
    "epochs": 310,
    "cooldown_epochs": 10,
    "peak_lr": 1e-3,
    "warmup_epochs": 5,
    "weight_decay": 0.05,
    "reprob": 0.25,
}
PAPER = "official train.sh; paper, Table 7"
# The fork's scripts take ImageNet's mean and standard deviation, and for validation at 384 and above warp the whole picture.
FORK_PRE_TRAIN = "training script of the authors' fork, but for jvan's mean and std of 0.5 instead of ImageNet's"
FORK_TUNED = (
    "paper, Table 8, 384×384; fine-tuning script of the authors' fork, but for jvan's mean and std of 0.5 instead of ImageNet's,"
    " crops of a quarter or more, and validation on the centre of pictures that the fork warps to 384×384"
)
PRE_TRAIN = "jvan train IMAGENET22K --arch {} --batch-size 8192 --epochs 90 --lr 4e-3 --warmup-epochs 5 --drop-path 0.1"
AFTER_22K = (
    "jvan train IMAGENET --weights {} --img-size 384 --batch-size 512 --epochs 30 --lr 5e-5 --warmup-epochs 0"
    " --weight-decay 1e-8 --drop-path {} --reprob 0.25 --clip-grad 0"
)
CIFAR = (
    "jvan train cifar10.tar.xz {} --img-size 32 --batch-size 128 --epochs {} --lr {} --weight-decay 0.1 --clip-grad 1 --drop-path 0"
    " --mixup {} --cutmix 1.0 --aa rand-m6-n1-mstd0.5-inc1 --reprob {} --model-ema 0.999 --output {}"
)
SMALL_VAN = "van_b0:embed_dims=32,64,128,256:depths=1,2,3,1:mlp_ratios=4,4,4,4:stem_stride=1"
SCRATCH = CIFAR.format(f"--arch {SMALL_VAN}", "40 --warmup-epochs 2", "3e-3", "0", "0", "runs/first")
SECOND = CIFAR.format(
    "--weights runs/first/last.safetensors", "28 --warmup-epochs 1", "1.5e-3", "0.1", "0", "runs/second"
)
THIRD = CIFAR.format(
    "--weights runs/second/last.safetensors --seed 43", "27 --warmup-epochs 1", "1.5e-3", "0.2", "0.25", "runs/third"
)

RECIPES = (
    *(
        Recipe(f"ImageNet-1K, {arch}", f"jvan train IMAGENET --arch {arch} --batch-size 1024", top1, PAPER, {**IMAGENET, "drop_path": None})
        for arch, top1 in (("van_b0", 75.4), ("van_b1", 81.1), ("van_b2", 82.8), ("van_b3", 83.9), ("van_b4", 84.2))
    ),
    *(
        Recipe(f"ImageNet-22K pre-training, {arch}", PRE_TRAIN.format(arch), None, FORK_PRE_TRAIN, {"mixup": 0.8})
        for arch in ("van_b4", "van_b5", "van_b6")
    ),
    *(
        Recipe(
            f"ImageNet-1K after 22K, {arch}", AFTER_22K.format(f"{arch}_22k.safetensors", drop_path), top1, FORK_TUNED,
            {"layer_decay": 1.0, "mixup": 0.0, "cutmix": 0.0, "reprob": 0.25, "clip_grad": 0.0, "peak_lr": 5e-5},
        )
        for arch, drop_path, top1 in (("van_b4", 0.2, 86.6), ("van_b5", 0.2, 87.0), ("van_b6", 0.3, 87.8))
    ),
    Recipe(
        "CUB-200, van_b2", "jvan train CUB_200 --weights van_b2.in1k --batch-size 24 --epochs 30 --lr 1e-4",
        87.6, "VAN-Jittor's demo and its log, epoch 28 of 30: the figure to beat", {"cooldown_epochs": 0, "clip_grad": 1.0},
    ),
    Recipe("CIFAR-10 from scratch, first stage of three", SCRATCH, 89.7, "measured: docs/training.md; 92.1 after the third", {"cooldown_epochs": 0, "layer_decay": 1.0}),
    Recipe("CIFAR-10, second stage of three", SECOND, 91.4, "measured: docs/training.md", {"cooldown_epochs": 0, "layer_decay": 1.0}),
    Recipe(
        "CIFAR-10, third stage of three", THIRD, 92.1, "measured: docs/training.md; the network that ships",
        {"cooldown_epochs": 0, "layer_decay": 1.0},
    ),
    Recipe(
        "your own folder", "jvan train FOLDER --weights van_b0.in1k --epochs 10", None, "it depends on the pictures",
        {"layer_decay": 0.8, "clip_grad": 1.0, "warmup_epochs": 1.0},
    ),
)  # fmt: skip


def make_config(kind: type, given: dict):
    """The configuration of `jvan train`, a ClassificationConfig (`kind`), with the options `given` by name; the rest is as the task wants it.

    With weights it is fine-tuning. A given learning rate is that of all layers, a given number of epochs has no
    cool-down, and warm-up takes at most a tenth of them unless it is given.
    """
    config = kind(**{**(FINE_TUNE if given.get("weights") else {}), **given})
    if "epochs" in given:
        config = replace(config, cooldown_epochs=0)
    if "lr" in given:
        config = replace(config, layer_decay=1.0)
    if config.output is None:
        config = replace(config, output=f"runs/{PurePath(config.data).name.partition('.')[0] or 'train'}")
    if "warmup_epochs" not in given:
        config = replace(config, warmup_epochs=min(config.warmup_epochs, config.epochs / 10))
    return config


HELP = """\
DATA is a folder or tar file with a folder of pictures a class, also under train/ and val/ (or test/), or CIFAR's own files.
Validation is on val/ inside DATA, else on --val, else on a seeded tenth of each class's pictures.

Without --weights the network begins afresh, with ImageNet's recipe: 300 epochs and 10 of cool-down, which --epochs leaves
out. With --weights it is fine-tuned, with a new head where the classes are other ones, and by default for 10
epochs at batch 32, with a learning rate of 3.2e-3 × batch ÷ 1024 that falls by 0.8 a layer from the head down, no mixing
or erasing, crops of a quarter of a picture or more, and gradients clipped to norm 1.
"""


def recipes_help() -> str:
    """The recipes as `jvan train --help` lists them."""
    rows = (f"  {r.name}: {'-' if r.top1 is None else r.top1} ({r.source})\n      {r.command}" for r in RECIPES)
    return "\n".join(("recipes (top-1 in per cent):", *rows))
