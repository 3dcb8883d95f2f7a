"""Which pictures make a batch, and which of them each process takes: pure functions, the same on every process.

A process takes whole pairs of mixup partners, places i and B - 1 - i of the global batch of B, so that it never
needs another's pictures, and its own rows mirror each other as the global batch's do. The same holds for the
rows that a worker of one process takes.
"""

from __future__ import annotations

import functools

import numpy as np

from ..errors import DataError
from . import seeds


@functools.lru_cache(maxsize=2)
def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of range(count), int64, read-only; another one each epoch."""
    order = seeds.generator(seeds.ORDER, seed, epoch).permutation(count)
    order.flags.writeable = False
    return order


def check_shares(batch_size: int, ranks: int) -> None:
    """DataError where pairs of a global batch cannot be dealt evenly to `ranks` processes."""
    if ranks > 1 and batch_size % (2 * ranks):
        fits = max(2 * ranks, round(batch_size / (2 * ranks)) * 2 * ranks)
        raise DataError(f"a batch of {batch_size} cannot be shared by {ranks} processes in pairs; take {fits}")


def places(batch_size: int, rank: int, ranks: int) -> np.ndarray:
    """The places of the global batch that this process takes, ascending; row j's mixup partner is row -1 - j."""
    if ranks == 1:
        return np.arange(batch_size)
    half = batch_size // (2 * ranks)
    first = np.arange(rank * half, (rank + 1) * half)
    return np.concatenate([first, (batch_size - 1 - first)[::-1]])


def training_batch(count: int, batch_size: int, seed: int, epoch: int, step: int, rank=0, ranks=1) -> np.ndarray:
    """Indices of the samples, int64 (batch_size / ranks,), of one step: each sample at most once an epoch."""
    order = epoch_order(count, seed, epoch)[step * batch_size : (step + 1) * batch_size]
    return order[places(batch_size, rank, ranks)]


def padded_batch(count: int, batch_size: int, step: int, rank=0, ranks=1, order=None) -> np.ndarray:
    """Indices, int64 (ceil(batch_size / ranks),), of one step in order; -1 where there is no sample left.

    Over all steps and ranks each sample comes exactly once, and every rank has as many steps of the same size.
    """
    rows = -(-batch_size // ranks)
    at = (step * ranks + rank) * rows + np.arange(rows)
    inside = at < count
    indices = np.where(inside, at, -1)
    if order is not None:
        indices[inside] = order[at[inside]]
    return indices


def padded_steps(count: int, batch_size: int, ranks: int = 1) -> int:
    """How many steps `padded_batch` needs."""
    return -(-count // (-(-batch_size // ranks) * ranks))


def worker_rows(rows: int, worker: int, workers: int) -> np.ndarray:
    """The rows of a batch of `rows` that one of `workers` makes, ascending, in whole pairs; perhaps none."""
    pairs = -(-rows // 2)
    first = np.arange(worker * pairs // workers, (worker + 1) * pairs // workers)
    return np.unique(np.concatenate([first, rows - 1 - first]))
