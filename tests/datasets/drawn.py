"""Small datasets that the tests draw, without the code under test."""

from __future__ import annotations

import io
import tarfile

import numpy as np
from PIL import Image

from jvan.data.source import Split
from jvan.data.stores import ArrayStore


def pixels(height=20, width=24, seed=0):
    """uint8 (height, width, 3), smooth with some noise, another for each seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    slopes = np.stack([180 * x / width, 180 * y / height, np.full(x.shape, 30 * (seed % 6))], axis=-1)
    return (slopes + rng.integers(0, 60, (height, width, 3))).astype(np.uint8)


def encoded(seed=0, kind="PNG", mode="RGB", **size) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels(seed=seed, **size)).convert(mode).save(out, kind)
    return out.getvalue()


def write(root, files: dict[str, bytes]):
    """Files below `root` (a Path) by relative path; `root` again."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def class_files(classes=("ant", "bee"), each=3, prefix="", **size) -> dict[str, bytes]:
    return {
        f"{prefix}{name}/{number}.png": encoded(seed=7 * label + number, **size)
        for label, name in enumerate(classes)
        for number in range(each)
    }


def tar_of(path, files: dict[str, bytes], mode="w", **options):
    """A tar file of regular members and their folders; `path` again."""
    with tarfile.open(path, mode, **options) as archive:
        for folder in sorted({name.rpartition("/")[0] for name in files} - {""}):
            member = tarfile.TarInfo(folder)
            member.type = tarfile.DIRTYPE
            archive.addfile(member)
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def in_memory(count=40, classes=4, side=12) -> Split:
    """Pictures that tell their own index: every pixel of picture i is (i, label, 7)."""
    labels = (np.arange(count) % classes).astype(np.int32)
    planes = np.stack([np.arange(count), labels, np.full(count, 7)], axis=-1).astype(np.uint8)
    stored = np.broadcast_to(planes[:, None, None], (count, side, side, 3)).copy()
    names = tuple(f"class{label}" for label in range(classes))
    return Split("drawn", names, labels, ArrayStore("drawn", stored), np.arange(count), names)
