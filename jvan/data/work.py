"""What makes a batch, wherever it is made: in this process or in any number of workers, the result is the same."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from ..errors import DataError, PictureError
from ..pictures.read import Reading
from . import seeds, shares
from .mixup import Mix, Mixup
from .slots import PICTURES, TARGETS, Field, layout_of
from .source import Split


class Bad(NamedTuple):
    """A picture that could not be read: the batch's `row`, the sample, what stands in for it (-1: nothing), and why."""

    row: int
    index: int
    instead: int
    name: str
    reason: str


class Made(NamedTuple):
    """What a worker has to say of its rows: the pictures that could not be read, and (row, target) where targets have no array."""

    bad: list[Bad]
    targets: list[tuple[int, object]]


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

    @property
    def layout(self) -> dict[str, Field]:
        """The arrays of a batch. Targets that are no array of one shape are not among them."""
        return layout_of(self.transform)

    def make(self, epoch: int, step: int, out: dict[str, np.ndarray], worker: int = 0, workers: int = 1) -> Made:
        """Fill one worker's rows of the arrays `out`, each (rows, …)."""
        rows = shares.worker_rows(self.rows, worker, workers)
        indices = self.indices(epoch, step)[rows]
        made = Made([], [])
        samples = self._mixed if self.mixup else self._alone
        for row, picture, target in samples(epoch, step, rows, indices, made.bad):
            out[PICTURES][row] = 0 if picture is None else picture
            if TARGETS in out:
                out[TARGETS][row] = 0 if picture is None else target
            else:
                made.targets.append((int(row), target))
        return made

    def _alone(self, epoch: int, step: int, rows, indices, bad: list[Bad]):
        sample = getattr(self.transform, "sample", None) or self._labelled
        for row, index in zip(rows, indices):
            yield (row, *self._sample(row, index, epoch, sample, bad))

    def _labelled(self, picture, target, rng):
        """A transform that knows pictures alone leaves the target as it is."""
        return self.transform(picture, rng), target

    def _mixed(self, epoch: int, step: int, rows, indices, bad: list[Bad]):
        """As in the original loader, pictures are mixed as 8-bit pixels, then normalised, then erased."""
        pixels = np.zeros((len(rows), *self.transform.shape), np.uint8)
        found = []
        for at, (row, index) in enumerate(zip(rows, indices)):
            picture, rest = self._sample(row, index, epoch, self._pixels, bad)
            if picture is not None:
                pixels[at] = picture
            found.append(rest)
        for row, mixed, rest in zip(rows, self.mix(epoch, step).pictures(pixels), found):
            yield (row, None, None) if rest is None else (row, self.transform.finish(mixed, rest[1]), rest[0])

    def _pixels(self, picture, target, rng):
        """The first half of a transform, and what the second half needs: what follows the mixing draws from `rng`, too."""
        return self.transform.pixels(picture, rng), (target, rng)

    def _sample(self, row: int, index: int, epoch: int, transform, bad: list[Bad]):
        """One sample, transformed, or, in training, the next good one that may stand in for it; (None, None) without any."""
        if index < 0:
            return None, None
        for instead in self._candidates(int(index)):
            try:
                rng = seeds.generator(seeds.SAMPLE, self.seed, epoch, index)
                with ExitStack() as held:
                    reading = Reading(self.max_pixels, getattr(self.transform, "short", None), held)
                    found = transform(*self.split.sample(instead, reading), rng)
            except PictureError as error:
                if instead == index:
                    name = self.split.name(instead)
                    bad.append(Bad(int(row), instead, -1, name, error.plain.removeprefix(f"{name}: ")))
                continue
            if instead != index:
                bad[-1] = bad[-1]._replace(instead=int(instead))
            return found
        if self.drop_last:
            raise DataError(
                f"{bad[-1].name}: {bad[-1].reason}; and no picture of {self.split.group(int(index))} can be read"
            )
        return None, None

    def _candidates(self, index: int):
        yield index
        if self.drop_last:
            yield from self.split.stand_ins(index)
