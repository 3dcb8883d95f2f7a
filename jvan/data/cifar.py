"""CIFAR-10 and CIFAR-100 as their authors give them: binary records, or Python pickles, which are read and never run."""

from __future__ import annotations

import fnmatch
from typing import NamedTuple

import numpy as np

from ..checkpoints.file_bytes import Source
from ..checkpoints.pickles.unpickle import Unpickler
from ..checkpoints.tensor import LazyTensor
from ..errors import CheckpointError, DataError, JvanError

SIDE = 32
PIXELS = 3 * SIDE * SIDE
LARGEST, TOGETHER = 256 << 20, 512 << 20  # bytes: CIFAR's largest file has 155 MB, and all of them 190


class Form(NamedTuple):
    """One of the four published forms; `labels` is the pickle's key, or how many label bytes a binary record has."""

    train: str
    val: str
    meta: str
    labels: str | int
    label_names: str
    classes: int


FORMS = (
    Form("data_batch_[1-9].bin", "test_batch.bin", "batches.meta.txt", 1, "", 10),
    Form("data_batch_[1-9]", "test_batch", "batches.meta", "labels", "label_names", 10),
    Form("train.bin", "test.bin", "fine_label_names.txt", 2, "", 100),
    Form("train", "test", "meta", "fine_labels", "fine_label_names", 100),
)


class Pictures(NamedTuple):
    classes: tuple[str, ...]
    labels: np.ndarray  # int32 (N,)
    pixels: np.ndarray  # uint8 (N, 32, 32, 3)


def find_cifar(files) -> tuple[Form, str] | None:
    """The form whose files are among `files` (relative paths), and the folder that they lie in."""
    for form in FORMS:
        for name in files:
            folder, _, base = name.rpartition("/")
            if fnmatch.fnmatchcase(base, form.train) and _fits(form, folder, files):
                return form, folder
    return None


def _fits(form: Form, folder: str, files) -> bool:
    """CIFAR-100's names are ordinary words: only its three files together are taken for it."""
    if form.classes == 10:
        return True
    inside = f"{folder}/" if folder else ""
    return {inside + form.train, inside + form.val, inside + form.meta} <= set(files)


def read_cifar(form: Form, folder: str, part: str, files, read) -> Pictures:
    """One part ("train" or "val"); `read(name)` gives a file's bytes. DataError for a file that is missing or damaged."""
    pattern = form.train if part == "train" else form.val
    names = sorted(name for name in files if _matches(name, folder, pattern))
    if not names:
        raise DataError(f"no {pattern} among CIFAR's files in {folder or 'this folder'}; fetch the archive again")
    batches = [_planes_last(*_batch(form, name, read(name))) for name in names]
    meta = [name for name in files if _matches(name, folder, form.meta)]
    classes = _class_names(form, meta[0], read(meta[0])) if meta else tuple(map(str, range(form.classes)))
    labels = np.concatenate([labels for labels, _ in batches])
    if labels.size == 0 or labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(f"{names[0]}: labels that are none of the {len(classes)} classes; the files are damaged")
    return Pictures(classes, labels, np.concatenate([pixels for _, pixels in batches]))


def _planes_last(labels: np.ndarray, planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int32 (N,) and uint8 (N, 32, 32, 3), copied, so that the file's bytes can go."""
    return labels.astype(np.int32), np.ascontiguousarray(planes.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _matches(name: str, folder: str, pattern: str) -> bool:
    above, _, base = name.rpartition("/")
    return above == folder and fnmatch.fnmatchcase(base, pattern)


def _batch(form: Form, name: str, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and pixels (N, 3072), planes of red, green, blue."""
    if isinstance(form.labels, int):
        record = form.labels + PIXELS
        if not data or len(data) % record:
            raise DataError(f"{name}: {len(data):,} bytes are no whole number of {record}-byte records")
        records = np.frombuffer(data, np.uint8).reshape(-1, record)
        return records[:, form.labels - 1], records[:, form.labels :]
    tree = _unpickled(name, data)
    pixels, labels = tree.get("data"), tree.get(form.labels)
    if (
        not isinstance(pixels, LazyTensor)
        or pixels.dtype != "uint8"
        or len(pixels.shape) != 2
        or pixels.shape[1] != PIXELS
    ):
        raise DataError(f"{name}: its 'data' is no uint8 array of {PIXELS} columns; this is no CIFAR batch")
    if type(labels) is not list or len(labels) != pixels.shape[0] or not all(map(_is_label, labels)):
        raise DataError(f"{name}: {form.labels!r} is no list of {pixels.shape[0]} integers; this is no CIFAR batch")
    return np.array(labels, np.int64), pixels.numpy()


def _is_label(value) -> bool:
    return type(value) is int and abs(value) < 1 << 31


def _unpickled(name: str, data: bytes) -> dict:
    try:
        tree = Unpickler(Source(name, data)).load()
    except CheckpointError as error:
        raise DataError(f"{error} (as a CIFAR batch)") from None
    if type(tree) is not dict:
        raise DataError(f"{name}: holds no dictionary; this is no CIFAR batch")
    return {key.decode("latin-1") if type(key) is bytes else key: value for key, value in tree.items()}


def _class_names(form: Form, name: str, data: bytes) -> tuple[str, ...]:
    if isinstance(form.labels, int):
        names = [line for line in data.decode("utf-8", "replace").split("\n") if line.strip()]
    else:
        names = _unpickled(name, data).get(form.label_names)
    if type(names) is not list or len(names) != form.classes or len(set(map(str, names))) != len(names):
        raise DataError(f"{name}: does not name {form.classes} different classes; fetch the archive again")
    return tuple(each.decode("utf-8", "replace") if type(each) is bytes else str(each).strip() for each in names)


def reader(store, names: list[str]):
    """`read` for the above, from a store and the names of its rows; DataError for more than these files ever have."""
    row_of = {name: row for row, name in enumerate(names)}
    left = TOGETHER

    def read(name: str) -> bytes:
        nonlocal left
        most = min(LARGEST, left)
        try:
            data = store.read(row_of[name], most)
        except JvanError as error:
            raise DataError(str(error)) from None
        if len(data) > most:
            what = "it has" if most == LARGEST else "it and the files before it have"
            limit = LARGEST if most == LARGEST else TOGETHER
            raise DataError(
                f"{name}: {what} more than {limit >> 20} MiB, and CIFAR's own files never do; fetch them again"
            )
        left -= len(data)
        return data

    return read
