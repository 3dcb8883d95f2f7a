"""The tasks as a table, and what works alike for all of them: build, load, fold, predict. What is asked for is imported then."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import CheckpointError, JvanError, PictureError

if TYPE_CHECKING:
    from .engine.task import Task

BUNDLED = Path(__file__).parent / "assets" / "van_cifar10.safetensors"
CLASSIFICATION = "classification"
# An architecture's suffix -> its task, whose folder has the file task.py; the longest that fits counts.
SUFFIXES = {"": CLASSIFICATION}


def task_named(name: str) -> Task:
    """A task by the word that weights have for it; JvanError for one that this jvan does not know."""
    if name not in SUFFIXES.values():
        known = ", ".join(sorted(set(SUFFIXES.values())))
        raise JvanError(f"the task is {name!r}, and this jvan knows {known}; install a newer one")
    return importlib.import_module(f"{__package__}.{name}.task").TASK


def task_of(arch: str | None = None, weights=None) -> Task:
    """The task that weights, or without weights an architecture's name, are for; classification where neither tells.

    Of a file only what it says of itself is read. A file that cannot be read is refused where its weights are.
    """
    told = _told(weights) if weights is not None else None
    if told is None:
        name = (arch or "").partition(":")[0]
        told = SUFFIXES[max((suffix for suffix in SUFFIXES if name.endswith(suffix)), key=len)]
    return task_named(told)


def _told(weights) -> str | None:
    if not isinstance(weights, (str, PathLike)) or not Path(weights).exists():
        return None
    from .checkpoints.reader import open_checkpoint

    try:
        with open_checkpoint(weights) as source:
            return source.metadata.task if source.metadata else None
    except (CheckpointError, OSError):
        return None


def _task_of_network(model) -> Task:
    metadata = getattr(model, "metadata", None)
    return task_named(metadata.task if metadata is not None else CLASSIFICATION)


def create_model(
    arch: str | None = None, weights=None, num_classes: int | None = None, in_chans: int | None = None,
    drop_rate: float = 0.0, drop_path_rate: float = 0.0, drop_head: bool = False,
    features_only: bool = False, out_indices=(0, 1, 2, 3), **changes,
):  # fmt: skip
    """Build a network of any task, in training mode as Jittor's modules are; call `.eval()` for inference.

    arch: a name of `list_models()`. weights: a path, or a name of `list_weights()`, which then says everything that the
    other arguments leave open. num_classes, in_chans, drop_rate, drop_path_rate: of the network. drop_head: a new
    head for `num_classes`, where the weights have another. features_only: the backbone alone, which returns the maps
    of the stages `out_indices`. changes: further fields of VANConfig (`kernel_size`, `dilation`, `lka_parts`, `gate`,
    `stem_stride`, `norm_eps`).

    Raises ValueError for what contradicts the weights, but for other `in_chans`, to which weights are adapted, for
    `norm_eps`, and for what a file without jvan's metadata leaves open; CheckpointError, a ValueError, for weights that
    cannot be read. What a user should know of the file comes as warnings.
    """
    backbone = features_only or (arch is None and weights is None)
    task = task_named(CLASSIFICATION) if backbone else task_of(arch, weights)
    return task.create_model(
        arch, weights, num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate,
        drop_head=drop_head, features_only=features_only, out_indices=out_indices, **changes,
    )  # fmt: skip


def load_weights(model, path, strict: bool = True) -> tuple[list[str], list[str]]:
    """Load a checkpoint of any known origin into `model`, of any task; returns the names (missing, unexpected).

    Raises CheckpointError that lists what is missing, unexpected and misshapen, or says in what the networks differ that
    shapes do not show. With `strict=False` a head that only one of the two has is returned instead; the rest still raises.
    `model.metadata` becomes the file's.
    """
    return _task_of_network(model).load_weights(model, path, strict)


def optimize_for_inference(model, dtype: str = "float32"):
    """A copy of `model`, of any task, for inference alone: same call, same outputs, no gradients.

    dtype: "float32", "bfloat16", or on a GPU "float16", of what is multiplied. `inference.optimize` says what is folded and
    how much outputs differ. Where nothing can stand in for the model, a copy of the plain network is returned with a
    warning. TypeError for what is no network of jvan's; JvanError, a ValueError, for a dtype that the device does not have.
    """
    return _task_of_network(model).optimize(model, dtype)


class Predictor:
    """Pictures in, a list with one answer a picture out: of any task, with the weights' own preprocessing and labels.

    weights: a path or a catalogue name; with `arch` alone the catalogue's weights for it are taken, with neither the
    bundled network, which knows CIFAR-10's ten classes. labels: a file (see `labels.read_labels`), a sequence of names, or
    a dict {index: name} or {name: index}, which stand in for the weights' own. device: "auto", "cpu" or "cuda". dtype:
    what `optimize_for_inference` takes. batch_size: pictures at a time. max_pixels: a picture of more is a PictureError
    (None: Pillow's own limit). model: a network at hand, instead of `arch` and `weights`.

    Raises CheckpointError for weights that do not fit (NoHead for a backbone's), JvanError for labels that are not one a
    class, for a dtype that the device does not have, and in a process that was forked off one that had imported Jittor.
    """

    def __init__(
        self, arch: str | None = None, weights=None, *, device="auto", dtype="float32", labels=None,
        batch_size: int = 16, max_pixels: int | None = None, model=None,
    ):  # fmt: skip
        from .inference.labels import given_labels
        from .inference.stream import Stream, positive
        from .ops.forked import check_not_forked

        check_not_forked()
        given = None if labels is None else given_labels(labels)
        max_pixels = _checked_pixels(max_pixels)
        if model is None:
            self.weights, self.device, model = _loaded(arch, weights, device, dtype)
        else:
            self.weights, self.device = "the given network", None
        batch_size = positive("batch_size", batch_size)
        if getattr(model, "metadata", None) is None:
            raise JvanError("the network does not say how its pictures are prepared; build it with jvan.create_model")
        self.task, self.metadata = _task_of_network(model), model.metadata
        self.answerer = self.task.answerer(self.weights, model.eval(), dtype, given, labels)
        self.model = self.answerer.model
        self._stream = Stream(self.answerer, batch_size, max_pixels)

    @classmethod
    def from_model(cls, model, *, dtype="float32", labels=None, batch_size: int = 16, max_pixels: int | None = None) -> Predictor:  # fmt: skip
        """A predictor around a network that is at hand; it is put into eval mode."""
        return cls(model=model, dtype=dtype, labels=labels, batch_size=batch_size, max_pixels=max_pixels)

    @property
    def labels(self):
        """The classes' names, in the order of the network's outputs."""
        return self.answerer.labels

    @property
    def batch_size(self) -> int:
        return self._stream.batch_size

    def describe(self) -> list[str]:
        """What is used, in lines: the weights, their network and its device; its arithmetic; the preprocessing; the weights' note, if any."""
        network, preprocessing = self.task.describe_network(self.metadata)
        lines = [
            f"weights: {self.weights} ({network}, on {self.device})",
            f"arithmetic: {getattr(self.model, 'arithmetic', 'float32, the network as it is')}",
            f"preprocessing: {preprocessing}",
        ]
        return [*lines, f"note: {self.metadata.note}"] if self.metadata.note else lines

    def __call__(self, images, *args, **options) -> list:
        """One answer for each picture, in order; a list for a single picture, too.

        images: a path, a PIL image, a uint8 array (H, W[, C]), an encoded picture's bytes or a file open in binary mode, or
        a list of these. options: the task's; of a classifier `topk`, how many classes a picture (5), best first. Raises
        PictureError for the first unusable picture.
        """
        results = []
        for _, result in self.stream([images] if _is_one(images) else images, *args, **options):
            if isinstance(result, PictureError):
                raise result
            results.append(result)
        return results

    def stream(self, images: Iterable, *args, **options) -> Iterator[tuple[object, object]]:
        """Yield (image, its answer or its PictureError), in order, holding a few batches at a time; options as in a call.

        An image that is a PictureError already is handed through. JvanError if the network's output is not finite.
        """
        return self._stream(images, *args, **options)


def _is_one(images) -> bool:
    """Whether this is one picture, no list of them."""
    import numpy as np

    from .pictures.in_memory import is_encoded

    return isinstance(images, (str, PathLike, np.ndarray)) or hasattr(images, "convert") or is_encoded(images)


def _loaded(arch, weights, device, dtype):
    """(the weights' name for messages, the device, the network)"""
    found, name = _resolved(arch, weights)

    from .device import use_device
    from .inference.optimize import check_dtype

    device = use_device(device)
    check_dtype(dtype)
    return name, device, task_of(arch, found).load_for_prediction(name, arch, found)


def _resolved(arch, weights):
    """What to load, and its name for messages."""
    if weights is not None:
        from .checkpoints.given import check_given

        check_given(weights)
        return weights, str(weights)
    if arch is not None:
        from .checkpoints.published.catalogue import default_entry

        name = default_entry(arch).name
        return name, name
    if not BUNDLED.exists():
        raise CheckpointError(f"{BUNDLED}: the bundled network is missing; reinstall jvan, or give weights")
    return BUNDLED, f"bundled {BUNDLED.name}"


def _checked_pixels(count) -> int | None:
    if count is not None and (not isinstance(count, int) or count < 1):
        raise ValueError(f"max_pixels is {count!r}; it must be a positive integer or None")
    return count


def __getattr__(name: str):
    """`Prediction` was a name of inference/predictor.py in 0.1.0, as Predictor was."""
    if name != "Prediction":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .classification.predictor import Prediction

    return Prediction
