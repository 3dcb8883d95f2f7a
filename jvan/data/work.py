"""What makes a batch, wherever it is made: in this process or in any number of workers, the result is the same."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from ..errors import DataError, PictureError
from ..inference.pictures import Reading
from . import seeds, shares
from .mixup import Mix, Mixup
from .source import Split


class Bad(NamedTuple):
    """A picture that could not be read: the batch's `row`, the sample, what stands in for it (-1: nothing), and why."""

    row: int
    index: int
    instead: int
    name: str
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Work:
    """Everything that the batches of one process depend on; the options are the Loader's."""

    split: Split
    transform: object
    seed: int
    batch_size: int
    rank: int = 0
    ranks: int = 1
    mixup: Mixup | None = None
    shuffle: bool = True
    drop_last: bool = True
    max_pixels: int | None = None

    @property
    def rows(self) -> int:
        """Pictures of a batch in this process."""
        return -(-self.batch_size // self.ranks)

    @property
    def steps(self) -> int:
        count = len(self.split)
        return count // self.batch_size if self.drop_last else shares.padded_steps(count, self.batch_size, self.ranks)

    def indices(self, epoch: int, step: int) -> np.ndarray:
        """The samples of this process's rows, int64; -1 for a row without one."""
        count = len(self.split)
        if self.drop_last and self.shuffle:
            return shares.training_batch(count, self.batch_size, self.seed, epoch, step, self.rank, self.ranks)
        if self.drop_last:
            return step * self.batch_size + shares.places(self.batch_size, self.rank, self.ranks)
        order = shares.epoch_order(count, self.seed, epoch) if self.shuffle else None
        return shares.padded_batch(count, self.batch_size, step, self.rank, self.ranks, order)

    def mix(self, epoch: int, step: int) -> Mix:
        """What is done to the global batch."""
        if self.mixup is None:
            return Mix()
        return self.mixup.draw(*self.transform.shape[1:], seeds.generator(seeds.MIX, self.seed, epoch, step))

    def make(self, epoch: int, step: int, out: np.ndarray, worker: int = 0, workers: int = 1) -> list[Bad]:
        """Fill one worker's rows of `out`, float32 (rows, C, H, W); what could not be read."""
        rows = shares.worker_rows(self.rows, worker, workers)
        indices = self.indices(epoch, step)[rows]
        bad: list[Bad] = []
        if self.mixup is None:
            for row, index in zip(rows, indices):
                picture = self._sample(row, index, epoch, self.transform, bad)
                out[row] = 0 if picture is None else picture
            return bad
        # As in the original loader, pictures are mixed as 8-bit pixels, then normalised, then erased.
        pixels = np.zeros((len(rows), *self.transform.shape), np.uint8)
        generators = [None] * len(rows)
        for at, (row, index) in enumerate(zip(rows, indices)):
            found = self._sample(row, index, epoch, _with_generator(self.transform.pixels), bad)
            if found is not None:
                pixels[at], generators[at] = found
        mixed = self.mix(epoch, step).pictures(pixels)
        for at, row in enumerate(rows):
            out[row] = 0 if generators[at] is None else self.transform.finish(mixed[at], generators[at])
        return bad

    def _sample(self, row: int, index: int, epoch: int, transform, bad: list[Bad]):
        """One sample's picture, or, in training, that of the next good one of its class; None where there is none."""
        if index < 0:
            return None
        for instead in self._candidates(int(index)):
            try:
                rng = seeds.generator(seeds.SAMPLE, self.seed, epoch, index)
                with ExitStack() as held:
                    reading = Reading(self.max_pixels, getattr(self.transform, "short", None), held)
                    picture = transform(self.split.picture(instead, reading), rng)
            except PictureError as error:
                if instead == index:
                    name = self.split.name(instead)
                    bad.append(Bad(int(row), instead, -1, name, error.plain.removeprefix(f"{name}: ")))
                continue
            if instead != index:
                bad[-1] = bad[-1]._replace(instead=int(instead))
            return picture
        if self.drop_last:
            label = self.split.classes[self.split.labels[index]]
            raise DataError(f"{bad[-1].name}: {bad[-1].reason}; and no picture of the class {label} can be read")
        return None

    def _candidates(self, index: int):
        yield index
        if self.drop_last:
            same = np.flatnonzero(self.split.labels == self.split.labels[index])
            at = int(np.searchsorted(same, index))
            yield from map(int, same[at + 1 :])
            yield from map(int, same[:at])


def _with_generator(transform):
    """`transform` that hands on its generator, too: what follows the mixing draws from it."""
    return lambda picture, rng: (transform(picture, rng), rng)
