"""Pictures in, answers out, in order: decoded ahead by threads, answered in batches, each fault in its place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from numbers import Integral
from os import PathLike, cpu_count

import numpy as np

from ..errors import JvanError, MemoryLimitError, PictureError
from ..ops.forked import check_not_forked
from ..pictures.in_memory import InMemory, in_memory, is_encoded
from ..pictures.large import Reading
from ..pictures.read import read_picture


class Answerer(ABC):
    """What a task makes of pictures: how one becomes an input, and what a batch of inputs is answered with."""

    model: object  # the network, folded where it can be
    labels: tuple  # its classes, in order
    side: int | None = None  # pixels of the shorter side that are enough: large JPEGs are decoded no larger
    ahead: int  # how many inputs may wait in memory for the network

    @abstractmethod
    def prepare(self, picture):
        """A decoded picture (a PIL image) as the network's input, whatever the task needs with it; may raise PictureError."""

    @abstractmethod
    def options(self, *args, **given) -> dict:
        """What a call was given beside its pictures, complete and checked; TypeError or ValueError for what the task does not take."""

    @abstractmethod
    def answers(self, prepared: list, **options) -> list:
        """What the network says of a batch: one element for each of `prepared`, in order."""


class Stream:
    """Decodes at most two batches ahead of the network, and less where pictures are large."""

    def __init__(self, answerer: Answerer, batch_size: int, max_pixels: int | None = None):
        self.answerer, self.batch_size, self.max_pixels = answerer, batch_size, max_pixels

    def __call__(self, images: Iterable, *args, **given) -> Iterator[tuple[object, object]]:
        """Yield (image, its answer or its PictureError), in order; an image that is a PictureError is handed through."""
        check_not_forked()
        options = self.answerer.options(*args, **given)
        batch, good = [], 0
        for image, prepared in self._prepared(images):
            batch.append((image, prepared))
            good += not isinstance(prepared, PictureError)
            if good == self.batch_size:
                yield from self._answered(batch, options)
                batch, good = [], 0
        yield from self._answered(batch, options)

    def _prepared(self, images: Iterable) -> Iterator[tuple[object, object]]:
        """Each image and its input or PictureError."""
        waiting = deque()
        ahead = min(2 * self.batch_size, self.answerer.ahead)
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

    def _prepare(self, image):
        if isinstance(image, PictureError):
            return image
        with ExitStack() as held:
            reading = Reading(self.max_pixels, self.answerer.side, held)
            try:
                picture = image.decode(reading) if isinstance(image, InMemory) else read_picture(image, reading)
            except PictureError as error:
                return error
            try:
                return self.answerer.prepare(picture)
            except PictureError as error:
                image = image.name if isinstance(image, InMemory) else image
                return PictureError(f"{image}: {error}") if isinstance(image, (str, PathLike)) else error

    def _answered(self, batch: list, options: dict) -> Iterator[tuple[object, object]]:
        prepared = [each for _, each in batch if not isinstance(each, PictureError)]
        answers = iter(self.answerer.answers(prepared, **options) if prepared else ())
        for image, each in batch:
            yield image, each if isinstance(each, PictureError) else next(answers)


def finite_outputs(name: str, model, inputs: np.ndarray) -> np.ndarray:
    """`model`, in eval mode, of (N, C, H, W) float32; JvanError, with the weights' name, where not all of it is finite."""
    import jittor as jt

    if model.is_training():
        model.eval()
    with jt.no_grad():
        outputs = model(jt.array(inputs)).numpy()
    if not np.isfinite(outputs).all():
        raise JvanError(
            f"{name}: the network's output is not finite (NaN or infinite); its weights are damaged, "
            "or its BatchNorm statistics do not fit its weights; convert or download them again"
        )
    return outputs


def positive(name: str, value) -> int:
    """A caller's whole number from 1 on; ValueError for anything else."""
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a positive integer")
    return int(value)


def _submitted(pool: ThreadPoolExecutor, work, image) -> Future:
    try:
        return pool.submit(work, image)
    except RuntimeError:
        raise MemoryLimitError(
            "a thread that decodes pictures cannot be started: this process may have no more memory or threads (ulimit -v, ulimit -u)"
        ) from None
