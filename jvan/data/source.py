"""A dataset as pictures with labels, whatever it lies in: folders, tar files, CIFAR's own files."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
from PIL import Image

from ..errors import DataError
from ..pictures.read import WHOLE, Reading
from . import cifar, seeds
from .layout import Tree
from .stores import ArrayStore, FolderStore, TarStore, scan_folder
from .tar_index import index_tar
from .unpack import plain_tar


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Pictures and their labels: int32 (N,), indices into `classes`. Cheap to send to another process."""

    title: str
    classes: tuple[str, ...]
    labels: np.ndarray
    store: object
    rows: np.ndarray
    folders: tuple[
        str, ...
    ] = ()  # the classes' names as they lie there, in the order of `classes` that the split began with
    notes: tuple[str, ...] = ()  # lines for the user: what of the data is not as it seems

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """Where this picture lies, for messages: its path, or `archive:member`."""
        return self.store.name(int(self.rows[index]))

    def picture(self, index: int, reading: Reading = WHOLE) -> Image.Image:
        """RGB, upright; PictureError, which names it, where it cannot be read."""
        return self.store.picture(int(self.rows[index]), reading)

    def sample(self, index: int, reading: Reading = WHOLE) -> tuple[Image.Image, int]:
        """(picture, label): what a transform gets."""
        return self.picture(index, reading), int(self.labels[index])

    def stand_ins(self, index: int):
        """The samples that may take an unreadable one's place in training: its class's, from the next one on, round."""
        same = np.flatnonzero(self.labels == self.labels[index])
        at = int(np.searchsorted(same, index))
        yield from map(int, same[at + 1 :])
        yield from map(int, same[:at])

    def group(self, index: int) -> str:
        """What `stand_ins` belong to, for messages."""
        return f"the class {self.classes[self.labels[index]]}"

    def subset(self, indices) -> Split:
        """The pictures of these indices, in this order; the classes stay."""
        return dataclasses.replace(self, labels=self.labels[indices], rows=self.rows[indices])

    def with_classes(self, classes: tuple[str, ...]) -> Split:
        """The same pictures, labelled by their place in `classes`; DataError for a class that is not there."""
        place = {name: label for label, name in enumerate(classes)}
        unknown = [name for name in self.classes if name not in place]
        if unknown:
            raise DataError(
                f"{self.title}: has the class {unknown[0]}, which is none of the {len(classes)} classes trained on; "
                "remove its folder or rename it"
            )
        labels = np.array([place[name] for name in self.classes], np.int32)[self.labels]
        return dataclasses.replace(self, classes=tuple(classes), labels=labels)


def open_split(path, part: str | None = None) -> Split:
    """The pictures of a dataset: a folder or tar file with a folder a class, or CIFAR's files, also in a tar file.

    Where it has parts (train/ and val/ or test/), `part` is "train" or "val" (None: "train"); where it has
    none, everything. DataError, in one line, where there is nothing to train on.
    """
    return _Dataset(path).split(part)


def open_train_and_val(data, val=None, seed: int = 0) -> tuple[Split, Split, str]:
    """(train, validation, a sentence that says where validation comes from).

    The parts inside `data` if both are there, else `val`, else a tenth of each class's pictures, the same
    ones for the same seed. DataError where the two have other classes.
    """
    dataset = _Dataset(data)
    train = dataset.split("train")
    if dataset.has("train") and dataset.has("val"):
        held_out = dataset.split("val")
        said = f"validation on {held_out.title}" + (f"; {os.fspath(val)} is not used" if val is not None else "")
    elif val is not None:
        held_out = open_split(val, "val")
        said = f"validation on {held_out.title}"
    else:
        train, held_out, said = hold_out_tenth(train, seed)
    notes = dict.fromkeys((*train.notes, *held_out.notes))
    return train, held_out.with_classes(train.classes), "; ".join((said, *notes))


def hold_out_tenth(split: Split, seed: int) -> tuple[Split, Split, str]:
    """A tenth of each class's pictures (at least one, but never a class's only one) for validation; and what was done."""
    rng = seeds.generator(seeds.HOLD_OUT, seed)
    held = np.zeros(len(split), bool)
    for label in range(len(split.classes)):
        members = rng.permutation(np.flatnonzero(split.labels == label))
        held[members[: max(1, round(len(members) / 10)) if len(members) > 1 else 0]] = True
    if not held.any():
        some = np.sort(rng.permutation(len(split))[: max(1, len(split) // 10)])
        said = f"no class has two pictures: validation repeats {len(some)} of the pictures trained on"
        return split, split.subset(some), said
    kept, taken = split.subset(np.flatnonzero(~held)), split.subset(np.flatnonzero(held))
    said = f"validation on a tenth of each class, {len(taken)} of {len(split)} pictures, chosen with seed {seed}"
    return kept, taken, said


class _Dataset:
    """What lies at a path, listed once."""

    def __init__(self, path):
        self.path = os.fspath(path)
        self.title = self.path.rstrip("/") or self.path
        if os.path.isdir(self.path):
            (self.files, self.folders), links = scan_folder(self.path), 0
            self.store = FolderStore(self.path, self.files)
        else:
            with plain_tar(self.path) as plain:
                index = index_tar(plain, self.title)
                self.files, self.folders, links = index.names, index.folders, index.links
                self.store = TarStore(plain, self.title, self.files, index.offsets, index.sizes)
        if not self.files:
            raise DataError(
                f"{self.title}: this folder or archive is empty; give one with a folder of pictures for each class"
            )
        self.cifar = cifar.find_cifar(self.files)
        self._read = cifar.reader(self.store, self.files)
        self.notes = (f"links inside the archive that are symbolic or lead to nothing are not followed: {links}",)[
            :links
        ]
        self.tree = Tree(self.title, self.files, self.folders)
        self.root = self.tree.root()

    def has(self, part: str) -> bool:
        return self.cifar is not None or self.tree.part(self.root, part) is not None

    def split(self, part: str | None) -> Split:
        part = part or "train"
        if part not in ("train", "val"):
            raise ValueError(f'part is {part!r}; it is "train" or "val"')
        if self.cifar is not None:
            form, folder = self.cifar
            found = cifar.read_cifar(form, folder, part, self.files, self._read)
            title = f"{self.title} ({part})"
            store = ArrayStore(title, found.pixels)
            return Split(title, found.classes, found.labels, store, np.arange(len(found.labels)), found.classes)
        folder = self._folder(part)
        title = f"{self.title}/{folder}" if folder else self.title
        found = self._labelled(folder, part)
        return Split(
            title, found.classes, found.labels, self.store, found.rows, found.folders, found.notes + self.notes
        )

    def _folder(self, part: str) -> str:
        others = [other for other in ("train", "val") if self.has(other)]
        if others and part not in others:
            raise DataError(f"{self.title}: has no {part}/ beside {self.tree.part(self.root, others[0])}/")
        return self.tree.part(self.root, part) if others else self.root

    def _labelled(self, folder: str, part: str):
        flat = part == "val" and self.has("val") and not self._has_class_folders(folder)
        class_of = self.tree.flat(folder, self._read) if flat else None
        return self.tree.labelled(folder) if class_of is None else self.tree.labelled_flat(folder, class_of)

    def _has_class_folders(self, folder: str) -> bool:
        below = self.tree.folders_below(folder)
        return bool(below) and not all(each.rpartition("/")[2] == "images" for each in below)
