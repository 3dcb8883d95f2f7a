"""Batches and their shares: nothing lost, nothing twice, partners together."""

import numpy as np
import pytest

from jvan.data import shares
from jvan.errors import DataError


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [8, 16, 40])
def test_ranks_share_a_batch_in_pairs(batch_size, ranks):
    taken = [shares.places(batch_size, rank, ranks) for rank in range(ranks)]
    assert sorted(np.concatenate(taken)) == list(range(batch_size))
    for places in taken:
        assert len(places) == batch_size // ranks and (np.diff(places) > 0).all()
        assert (places + places[::-1] == batch_size - 1).all()


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_an_epoch_is_the_same_whatever_the_number_of_ranks(ranks):
    count, batch = 67, 16
    order = shares.epoch_order(count, 5, 2)
    for step in range(count // batch):
        places = np.concatenate([shares.places(batch, rank, ranks) for rank in range(ranks)])
        mine = [shares.training_batch(count, batch, 5, 2, step, rank, ranks) for rank in range(ranks)]
        assert np.array_equal(np.concatenate(mine), order[step * batch + places])


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [tuple(shares.epoch_order(50, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4 and all(sorted(order) == list(range(50)) for order in orders)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 7, 24, 25])
@pytest.mark.parametrize("batch_size", [1, 5, 8])
def test_evaluation_sees_each_sample_once(count, batch_size, ranks):
    steps = shares.padded_steps(count, batch_size, ranks)
    seen = [shares.padded_batch(count, batch_size, step, rank, ranks) for step in range(steps) for rank in range(ranks)]
    assert len({len(each) for each in seen}) == 1
    indices = np.concatenate(seen)
    assert sorted(indices[indices >= 0]) == list(range(count))
    last = [shares.padded_batch(count, batch_size, steps - 1, rank, ranks) for rank in range(ranks)]
    assert (np.concatenate(last) >= 0).any()


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("rows", [1, 2, 7, 16])
def test_workers_share_the_rows_in_pairs(rows, workers):
    taken = [shares.worker_rows(rows, worker, workers) for worker in range(workers)]
    assert sorted(np.concatenate(taken)) == list(range(rows))
    for mine in taken:
        assert (mine + mine[::-1] == rows - 1).all()


def test_a_batch_that_cannot_be_shared_is_refused_with_one_that_can():
    shares.check_shares(7, 1)
    with pytest.raises(DataError, match=r"batch of 100 cannot be shared by 3 processes .* take 102"):
        shares.check_shares(100, 3)
