"""The run's pictures: loaders for training and for validation, and what is said and kept of the data."""

from __future__ import annotations

import hashlib
from pathlib import PurePath

import numpy as np

from ..data.loader import Loader
from ..data.mixup import Mixup
from ..data.name_list import class_name_of_0_1
from ..data.transforms import Augment, Evaluate
from .sizes import SMALL


def training(config, split, metadata, processes) -> Loader:
    """Augmented, mixed, in an order of their own in every epoch; whole batches only.

    Small pictures are shifted and keep their colours (He et al. 2016, section 4.2), others are cut and jittered.
    """
    preprocessing, small = metadata.preprocessing, config.img_size <= SMALL
    augment = Augment(
        size=config.img_size, crop="reflected" if small else "resized", scale=config.crop_scale, flip=config.flip,
        color_jitter=0.0 if small else config.color_jitter, auto_augment=config.aa, reprob=config.reprob,
        mean=preprocessing.mean, std=preprocessing.std,
    )  # fmt: skip
    mixup = Mixup(mixup=config.mixup, cutmix=config.cutmix, smoothing=config.smoothing, classes=len(split.classes))
    return Loader(
        split, augment, seed=config.seed, batch_size=config.batch_size, workers=config.workers,
        rank=processes.rank, ranks=processes.count, mixup=mixup, shuffle=True, drop_last=True, max_pixels=config.max_pixels,
    )  # fmt: skip


def testing(config, split, metadata, processes) -> Loader:
    """As the network is to see them, in order, each once."""
    return Loader(
        split, Evaluate(metadata.preprocessing), seed=config.seed, batch_size=config.batch_size, workers=config.workers,
        rank=processes.rank, ranks=processes.count, shuffle=False, drop_last=False, max_pixels=config.max_pixels,
    )  # fmt: skip


def data_digest(split) -> str:
    """Of the pictures' names, labels and classes, in order, wherever the data lie; names are as the states of 0.1.0 have them."""
    total = hashlib.sha256("\n".join(map(class_name_of_0_1, split.folders)).encode())
    total.update(np.ascontiguousarray(split.labels, "<i4"))
    for index in range(len(split)):
        name = PurePath(split.name(index).removeprefix(f"{split.title}:")).name
        total.update(class_name_of_0_1(name).encode() + b"\n")
    return total.hexdigest()
