"""Batches in a fixed order, made ahead of time by worker processes; the same ones whatever the number of workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from . import shares
from .mixup import Mixup
from .pool import Pool, forget_jittors_handler
from .slots import PICTURES, TARGETS, arrays_in, batch_bytes, slots_for
from .source import Split
from .work import Made, Work

LARGEST_SHARE_CORRUPT = 0.01


class Batch(NamedTuple):
    """This process's share of one step's global batch."""

    pictures: np.ndarray  # float32 (n, C, H, W)
    targets: object  # int32 (n,) labels, with mixup float32 (n, classes); else what the transform's layout says
    indices: np.ndarray  # int64 (n,): the samples used; -1 where the row is empty
    weights: np.ndarray  # float32 (n,): 1, or 0 where the row does not count


class Loader:
    """Iterates over the batches of a split; a context manager.

    `split.sample(index)` gives (picture, target). `transform(picture, rng)` gives float32 of `transform.shape`; with `mixup`
    it needs `pixels` and `finish`, as `Augment` has. A transform of targets, too, has `sample(picture, target, rng)`, which
    gives both, and `layout`, {"pictures": Field, "targets": Field}; without "targets" there they are of any kind, and come
    as a list, None in rows without a sample. `batch_size` is that of all `ranks` processes together. `drop_last=True` is for training:
    every batch is full, and a corrupt picture is replaced by the next good one of its class. With `drop_last=False`,
    for evaluation, each sample comes exactly once over all ranks, rows without one (and corrupt pictures) weigh 0,
    and all batches have the same shape. `workers=0` makes them in this process. A picture of more than `max_pixels`
    (None: Pillow's own limit) is a corrupt one; `transform.short`, if there, is the short side that suffices of a large one.

    `corrupt` lists (name, reason) of the pictures that could not be read; DataError for more than one and 1 %. One
    of several processes knows its own alone: they wait in `unreadable` until `report_unreadable` is given those of all.
    """

    def __init__(
        self, split: Split, transform, seed: int, batch_size: int, workers: int = 0, rank: int = 0, ranks: int = 1,
        mixup: Mixup | None = None, shuffle: bool = True, drop_last: bool = True, max_pixels: int | None = None,
    ):  # fmt: skip
        if batch_size < 1 or workers < 0 or not 0 <= rank < ranks or seed < 0:
            raise ValueError(f"batch_size={batch_size}, workers={workers}, rank={rank} of {ranks}, seed={seed}")
        if not len(split):
            raise DataError(f"{split.title}: holds no pictures")
        if drop_last:
            shares.check_shares(batch_size, ranks)
            if len(split) < batch_size:
                raise DataError(
                    f"{split.title}: {len(split)} pictures are fewer than a batch of {batch_size}; take a smaller batch size"
                )
        self.work = Work(split, transform, seed, batch_size, rank, ranks, mixup, shuffle, drop_last, max_pixels)
        self.workers = min(workers, -(-self.work.rows // 2))
        self.corrupt: list[tuple[str, str]] = []
        self.unreadable: list[tuple[int, str, str]] = []  # (index, name, reason)
        self._seen: set[int] = set()
        self._pool: Pool | None = None

    def __len__(self) -> int:
        """Steps of an epoch."""
        return self.work.steps

    @property
    def memory(self) -> int:
        """Bytes of the batches that are made ahead and of the one that is handed out."""
        slots, bytes_each = slots_for(self.work.layout, self.work.rows)
        return (slots + 1 if self.workers else 1) * bytes_each

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches from `first_step` on, each as it would be had the ones before been asked for, too."""
        return self._in_workers(epoch, first_step) if self.workers else self._here(epoch, first_step)

    def _here(self, epoch: int, first_step: int) -> Iterator[Batch]:
        for step in range(first_step, len(self)):
            memory = bytearray(batch_bytes(self.work.layout, self.work.rows))
            arrays = arrays_in(memory, self.work.layout, self.work.rows)
            yield self._batch(epoch, step, arrays, self.work.make(epoch, step, arrays))

    def _in_workers(self, epoch: int, first_step: int) -> Iterator[Batch]:
        if self._pool is None or self._pool.closed:
            self._pool = Pool(self.work, self.workers)
        pool = self._pool
        forget_jittors_handler()  # Jittor may have been imported since
        pool.drain()
        following = first_step
        for step in range(first_step, len(self)):
            while pool.free and following < len(self):
                pool.submit(epoch, following)
                following += 1
            arrays, made = pool.collect()
            if following < len(self):
                pool.submit(epoch, following)
                following += 1
            yield self._batch(epoch, step, arrays, made)

    def _batch(self, epoch: int, step: int, arrays: dict[str, np.ndarray], made: Made) -> Batch:
        work = self.work
        indices = work.indices(epoch, step)
        weights = (indices >= 0).astype(np.float32)
        indices = indices.copy()
        self.unreadable += [(each.index, each.name, each.reason) for each in made.bad if each.index not in self._seen]
        if work.ranks == 1:
            self.report_unreadable(self.unreadable)
        for each in made.bad:
            if each.instead < 0:
                weights[each.row] = 0
            else:
                indices[each.row] = each.instead
        targets = arrays[TARGETS] if TARGETS in arrays else [target for _, target in made.targets]
        if work.mixup is not None:
            targets = work.mix(epoch, step).targets(targets, work.mixup.classes, work.mixup.smoothing)
        return Batch(arrays[PICTURES], targets, indices, weights)

    def report_unreadable(self, found: list) -> None:
        """Note what all processes `met`, each picture once; DataError, in all of them, where these are too many."""
        self.unreadable = []
        for index, name, reason in sorted(found):
            if index not in self._seen:
                self._seen.add(index)
                self.corrupt.append((name, reason))
        count, total = len(self.corrupt), len(self.work.split)
        if count > max(1, LARGEST_SHARE_CORRUPT * total):
            first, reason = self.corrupt[0]
            raise DataError(
                f"{first}: {reason}; it is one of {count} of {total} pictures that cannot be read, more than 1 %"
            ).in_all()

    def close(self) -> None:
        """End the workers at once."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_) -> None:
        self.close()
