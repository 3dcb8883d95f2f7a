"""Pictures in, labelled probabilities out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from numbers import Integral
from os import PathLike, cpu_count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..checkpoints.given import check_given
from ..errors import CheckpointError, JvanError, MemoryLimitError, NoHead, PictureError
from ..ops.forked import check_not_forked
from ..pictures.in_memory import InMemory, in_memory, is_encoded
from ..pictures.large import Reading
from ..pictures.preprocess import describe, preprocess, short_side
from ..pictures.read import read_picture
from .labels import Label, checked, given_labels, labels_for

BUNDLED = Path(__file__).parents[1] / "assets" / "van_cifar10.safetensors"


class Prediction(NamedTuple):
    """A class, its name, its probability, and its WordNet id where the labels have them."""

    index: int
    label: str
    probability: float
    wnid: str | None = None


class Predictor:
    """Classify pictures with a network, its own preprocessing and its own labels.

    `weights` is a path or a catalogue name; with `arch` alone the catalogue's weights for it are taken,
    with neither the bundled network, which knows CIFAR-10's ten classes. `labels` is a file (see `read_labels`),
    a sequence of names or a dict {index: name} or {name: index}, in place of the weights' own. `device` is "auto", "cpu"
    or "cuda", `dtype` what `optimize_for_inference` takes. A picture of more than `max_pixels` (None: Pillow's own limit) is a
    PictureError. Raises CheckpointError for weights without a classification head, JvanError for labels that are not one a
    class, for a dtype that the device does not have, and in a process that was forked off one that had imported Jittor.
    """

    def __init__(self, arch: str | None = None, weights=None, *, device="auto", dtype="float32", labels=None, batch_size: int = 16, max_pixels: int | None = None):  # fmt: skip
        check_not_forked()
        given = None if labels is None else given_labels(labels)
        self.max_pixels = _checked_pixels(max_pixels)
        weights, self.weights = _resolve(arch, weights)

        from ..device import use_device
        from ..models import create_model
        from .optimize import check_dtype

        self.device = use_device(device)
        check_dtype(dtype)
        try:
            model = create_model(arch, weights=weights)
        except NoHead:
            raise NoHead(
                f"{self.weights}: the weights have no classification head, so they cannot name pictures; give a classifier's"
            ) from None
        except JvanError:
            raise
        except ValueError as error:
            raise CheckpointError(f"{self.weights}: {error}") from None
        self._set_up(model, given, labels, batch_size, dtype)

    @classmethod
    def from_model(cls, model, *, dtype="float32", labels=None, batch_size: int = 16, max_pixels: int | None = None) -> Predictor:  # fmt: skip
        """A predictor around a network that is at hand; it is put into eval mode."""
        given = None if labels is None else given_labels(labels)
        predictor = cls.__new__(cls)
        predictor.weights, predictor.device = "the given network", None
        predictor.max_pixels = _checked_pixels(max_pixels)
        predictor._set_up(model, given, labels, batch_size, dtype)
        return predictor

    def _set_up(self, model, given, source, batch_size, dtype) -> None:
        check_not_forked()
        batch_size = _positive("batch_size", batch_size)
        metadata = model.metadata
        if metadata is None:
            raise JvanError("the network does not say how its pictures are prepared; build it with jvan.create_model")
        if metadata.config.num_classes == 0:
            raise NoHead(
                f"{self.weights}: a network without a classification head cannot name pictures; give a classifier's weights"
            )
        channels = metadata.config.in_chans
        if channels not in (1, 3) or channels != len(metadata.preprocessing.mean):
            means = len(metadata.preprocessing.mean)
            raise CheckpointError(
                f"{self.weights}: the network takes {channels} channels and its preprocessing describes {means}; "
                "pictures give 3, or 1 as grey"
            )
        self.model, self.metadata, self.batch_size = _fast(model.eval(), dtype), metadata, batch_size
        self.room = _room(self.weights, self.model, metadata)
        self.room.check(1)
        classes = metadata.config.num_classes
        if given is None:
            self.labels = labels_for(metadata.labels, classes)
        else:
            self.labels = checked(given, classes, source if isinstance(source, (str, PathLike)) else "labels")

    def describe(self) -> list[str]:
        """What is used, in lines: the weights, their network and its device; its arithmetic; the preprocessing; the weights' note, if any."""
        config, note = self.metadata.config, self.metadata.note
        lines = [
            f"weights: {self.weights} ({config.arch}, {config.num_classes} classes, on {self.device})",
            f"arithmetic: {getattr(self.model, 'arithmetic', 'float32, the network as it is')}",
            f"preprocessing: {describe(self.metadata.preprocessing)}",
        ]
        return [*lines, f"note: {note}"] if note else lines

    def __call__(self, images, topk: int = 5) -> list[list[Prediction]]:
        """The `topk` likeliest classes of each picture, best first; all of them if there are fewer.

        `images` is a path, a PIL image, a uint8 array (H, W[, C]), an encoded picture's bytes or a file open in binary
        mode, or a list of these; the result is a list with one list a picture, also for a single one. PictureError for the
        first unusable one.
        """
        single = isinstance(images, (str, PathLike, np.ndarray)) or hasattr(images, "convert") or is_encoded(images)
        results = []
        for _, result in self.stream([images] if single else images, topk):
            if isinstance(result, PictureError):
                raise result
            results.append(result)
        return results

    def stream(self, images: Iterable, topk: int = 5) -> Iterator[tuple[object, list[Prediction] | PictureError]]:
        """Yield (image, its predictions or its PictureError), in order, holding a few batches at a time.

        An image that is a PictureError already is handed through. JvanError if the network's output is
        not finite.
        """
        check_not_forked()
        topk = _positive("topk", topk)
        batch = []
        for image, array in self._decoded(images):
            batch.append((image, array))
            if sum(not isinstance(each, PictureError) for _, each in batch) == self.batch_size:
                yield from self._predict(batch, topk)
                batch = []
        yield from self._predict(batch, topk)

    def _decoded(self, images: Iterable) -> Iterator[tuple[object, np.ndarray | PictureError]]:
        """Each image and its input array, decoded by threads that stay at most two batches ahead, and less where pictures are large."""
        waiting = deque()
        ahead = min(2 * self.batch_size, self.room.ahead)
        pool = ThreadPoolExecutor(min(8, cpu_count() or 1), thread_name_prefix="jvan-picture")
        try:
            for image in images:
                held = in_memory(image) if is_encoded(image) else image
                waiting.append((image, _submitted(pool, self._prepare, held)))
                if len(waiting) > ahead:
                    image, future = waiting.popleft()
                    yield image, future.result()
            while waiting:
                image, future = waiting.popleft()
                yield image, future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _prepare(self, image) -> np.ndarray | PictureError:
        if isinstance(image, PictureError):
            return image
        with ExitStack() as held:
            reading = Reading(self.max_pixels, short_side(self.metadata.preprocessing), held)
            try:
                picture = image.decode(reading) if isinstance(image, InMemory) else read_picture(image, reading)
            except PictureError as error:
                return error
            try:
                return preprocess(picture, self.metadata.preprocessing)
            except PictureError as error:
                image = image.name if isinstance(image, InMemory) else image
                return PictureError(f"{image}: {error}") if isinstance(image, (str, PathLike)) else error

    def _predict(self, batch, topk) -> Iterator[tuple[object, list[Prediction] | PictureError]]:
        arrays = [array for _, array in batch if not isinstance(array, PictureError)]
        self.room.check(len(arrays))
        probabilities = iter(self._probabilities(np.stack(arrays)) if arrays else ())
        for image, array in batch:
            failed = isinstance(array, PictureError)
            yield image, array if failed else _best(next(probabilities), self.labels, topk)

    def _probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """(N, C, H, W) float32 to (N, classes) float64."""
        import jittor as jt

        if self.model.is_training():
            self.model.eval()
        with jt.no_grad():
            logits = self.model(jt.array(inputs)).numpy()
        if not np.isfinite(logits).all():
            raise JvanError(
                f"{self.weights}: the network's output is not finite (NaN or infinite); its weights are damaged, "
                "or its BatchNorm statistics do not fit its weights; convert or download them again"
            )
        return softmax(logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    """(N, classes) to probabilities, in float64 and without overflow."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _positive(name: str, value) -> int:
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a positive integer")
    return int(value)


def _submitted(pool: ThreadPoolExecutor, work, image):
    try:
        return pool.submit(work, image)
    except RuntimeError:
        raise MemoryLimitError(
            "a thread that decodes pictures cannot be started: this process may have no more memory or threads (ulimit -v, ulimit -u)"
        ) from None


def _best(probabilities: np.ndarray, labels: tuple[Label, ...], topk: int) -> list[Prediction]:
    order = np.argsort(-probabilities, kind="stable")[:topk]
    return [Prediction(int(i), labels[i].name, float(probabilities[i]), labels[i].wnid) for i in order]


def _checked_pixels(count) -> int | None:
    if count is not None and (not isinstance(count, int) or count < 1):
        raise ValueError(f"max_pixels is {count!r}; it must be a positive integer or None")
    return count


def _fast(model, dtype):
    """The network folded for inference where it is a VAN; else as it is."""
    from ..models import VAN
    from .optimize import optimize_for_inference

    return optimize_for_inference(model, dtype) if isinstance(model, VAN) else model


def _room(name: str, model, metadata):
    from .room import Room

    size = metadata.preprocessing.size
    return Room(name, model, (metadata.config.in_chans, size, size))


def _resolve(arch, weights):
    """What to load, and its name for messages."""
    if weights is not None:
        check_given(weights)
        return weights, str(weights)
    if arch is not None:
        from ..checkpoints.published.catalogue import default_entry

        name = default_entry(arch).name
        return name, name
    if not BUNDLED.exists():
        raise CheckpointError(f"{BUNDLED}: the bundled network is missing; reinstall jvan, or give weights")
    return BUNDLED, f"bundled {BUNDLED.name}"
