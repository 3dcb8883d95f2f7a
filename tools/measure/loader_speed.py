"""How many pictures a second the loader prepares for training, on its own: python tools/measure/loader_speed.py [DATA [SIZE]]."""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from jvan.data.loader import Loader
from jvan.data.mixup import Mixup
from jvan.data.source import open_split
from jvan.data.transforms import Augment

BATCH, SECONDS = 16, 5


def draw(folder):
    """Pictures of noise, 256 × 256, where no data are given."""
    for index in range(4 * BATCH):
        path = Path(folder) / "ab"[index % 2] / f"{index}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.RandomState(index).randint(0, 256, (256, 256, 3), np.uint8)).save(path)
    return folder


def pictures_a_second(split, size, workers):
    mixup = Mixup(mixup=0.8, cutmix=1.0, smoothing=0.1, classes=len(split.classes))
    with Loader(split, Augment(size=size), seed=0, batch_size=BATCH, workers=workers, mixup=mixup) as loader:
        batches = (batch for epoch in range(10**6) for batch in loader.epoch(epoch))
        for _ in range(2 * workers + 2):  # until the queue is full once
            next(batches)
        count, begun = 0, time.monotonic()
        while time.monotonic() - begun < SECONDS:
            count += len(next(batches).pictures)
        return count / (time.monotonic() - begun)


if __name__ == "__main__":  # the workers import this file again
    with tempfile.TemporaryDirectory() as folder:
        data = sys.argv[1] if sys.argv[1:] else draw(folder)
        split, size = open_split(data, "train"), int(sys.argv[2]) if sys.argv[2:] else 224
        for workers in (1, 2):
            print(f"{workers} workers: {pictures_a_second(split, size, workers):.0f} pictures a second")
