"""Targets of any shape: an array a sample (a mask), or anything that can be pickled (boxes, of any number)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from jvan.data.loader import Loader
from jvan.data.slots import Field
from jvan.data.source import Split
from jvan.data.stores import ArrayStore

from .drawn import encoded, in_memory, pixels, write
from .test_loader import assert_equal, dataset

SIDE = 12


class Segmented(Split):
    """Beside each picture its mask: where red is high."""

    def sample(self, index, reading=None):
        picture = self.picture(index)
        return picture, np.asarray(picture)[..., 0] > 100


@dataclass(frozen=True)
class Masks:
    """A crop that picture and mask share, drawn once."""

    layout: ClassVar = {"pictures": Field((3, 8, 8), "float32"), "targets": Field((8, 8), "uint8")}

    def sample(self, picture, mask, rng):
        top, left = rng.integers(SIDE - 8 + 1, size=2)
        window = slice(top, top + 8), slice(left, left + 8)
        return np.asarray(picture)[window].transpose(2, 0, 1), mask[window]


@dataclass(frozen=True)
class Boxes:
    """As many boxes as the red channel's first value says, modulo 4; none is as good as three."""

    layout: ClassVar = {"pictures": Field((3, SIDE, SIDE), "float32")}

    def sample(self, picture, mask, rng):
        values = np.asarray(picture)
        count = int(values[0, 0, 0]) % 4
        return values.transpose(2, 0, 1), {"boxes": values[:count, :4, 1].astype(np.float64), "count": count}


@pytest.fixture(scope="module")
def split():
    plain = in_memory(43)
    store = ArrayStore("drawn", np.stack([pixels(SIDE, SIDE, seed) for seed in range(43)]))
    return Segmented(plain.title, plain.classes, plain.labels, store, plain.rows, plain.folders)


def batches(split, transform, batch_size=8, **options):
    with Loader(split, transform, 0, batch_size, **options) as loader:
        return list(loader.epoch(2))


@pytest.mark.parametrize("workers", [0, 3])
def test_masks_follow_their_pictures(split, workers):
    made = batches(split, Masks(), workers=workers)
    assert len(made) == 5
    for batch in made:
        assert batch.targets.dtype == np.uint8 and batch.targets.shape == (8, 8, 8)
        assert np.array_equal(batch.targets, batch.pictures[:, 0] > 100) and 0 < batch.targets.mean() < 1
    assert_equal(made, batches(split, Masks()))


@pytest.mark.parametrize("workers", [0, 3])
def test_boxes_of_any_number_come_in_the_order_of_the_rows(split, workers):
    made = batches(split, Boxes(), workers=workers, drop_last=False, shuffle=False)
    counts = set()
    for batch in made:
        assert len(batch.targets) == 8
        for picture, target, index in zip(batch.pictures, batch.targets, batch.indices):
            if index < 0:
                assert target is None and not picture.any()
                continue
            counts.add(target["count"])
            assert len(target["boxes"]) == target["count"] == int(picture[0, 0, 0]) % 4
            assert np.array_equal(target["boxes"], picture[1, : target["count"], :4])
    assert len(counts) > 1 and sum(target is None for batch in made for target in batch.targets) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_a_target_stands_in_with_its_picture(tmp_path, workers):
    plain = dataset(tmp_path, ("ant/099.png",))
    write(tmp_path, {"ant/000.png": encoded(5, height=SIDE, width=SIDE)})  # what stands in, and looks like no other
    split = Segmented(plain.title, plain.classes, plain.labels, plain.store, plain.rows, plain.folders)
    made = batches(split, Masks(), batch_size=20, workers=workers)
    assert sum((batch.indices == 0).sum() for batch in made) == 2
    for batch in made:
        assert np.array_equal(batch.targets, batch.pictures[:, 0] > 100)


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_without_a_sample_have_no_target(tmp_path, workers):
    plain = dataset(tmp_path, ("ant/005.png",))
    split = Segmented(plain.title, plain.classes, plain.labels, plain.store, plain.rows, plain.folders)
    first = batches(split, Masks(), batch_size=16, workers=workers, drop_last=False, shuffle=False)[0]
    assert first.weights.tolist() == [1] * 5 + [0] + [1] * 10
    assert not first.targets[5].any() and first.targets[4].any()
