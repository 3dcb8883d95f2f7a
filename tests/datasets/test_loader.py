"""The loader's batches: the same bits whatever makes them, nothing lost, corrupt pictures replaced and counted."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jvan.data.loader import Loader
from jvan.data.mixup import Mixup
from jvan.data.source import open_split
from jvan.data.transforms import Augment, Evaluate
from jvan.errors import DataError
from jvan.preprocessing import Preprocessing

from .drawn import class_files, encoded, in_memory, write

SIDE = 12
AUGMENT = Augment(size=SIDE, reprob=0.5)
EVALUATE = Evaluate(Preprocessing(SIDE, 1.0, "bilinear", (0.0,) * 3, (1 / 255,) * 3))  # the pixels as they are
MIXUP = Mixup(4)


def batches(split, transform=AUGMENT, seed=0, batch_size=8, epoch=0, first_step=0, **options):
    with Loader(split, transform, seed, batch_size, **options) as loader:
        return list(loader.epoch(epoch, first_step))


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs):
        for name in a._fields:
            assert np.array_equal(getattr(a, name), getattr(b, name)), name


@pytest.fixture(scope="module")
def split():
    return in_memory(43)


@pytest.mark.parametrize("mixup", [None, MIXUP])
@pytest.mark.parametrize("workers", [1, 2, 3, 9])
def test_workers_change_nothing(split, workers, mixup):
    assert_equal(batches(split, workers=workers, mixup=mixup, epoch=3), batches(split, mixup=mixup, epoch=3))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_resumes_in_its_middle(split, workers):
    whole = batches(split, mixup=MIXUP, epoch=5)
    assert_equal(batches(split, mixup=MIXUP, epoch=5, first_step=3, workers=workers), whole[3:])
    assert batches(split, first_step=5) == []


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("mixup", [None, MIXUP])
def test_ranks_share_what_one_process_makes(split, ranks, mixup):
    from jvan.data.shares import places

    whole = batches(split, mixup=mixup, batch_size=16)
    for rank in range(ranks):
        mine = batches(split, mixup=mixup, batch_size=16, rank=rank, ranks=ranks)
        taken = places(16, rank, ranks)
        for a, b in zip(mine, whole):
            for name in a._fields:
                assert np.array_equal(getattr(a, name), getattr(b, name)[taken]), name


def test_a_sample_does_not_depend_on_its_batch(split):
    found = {size: {} for size in (4, 10)}
    for size, of in found.items():
        for batch in batches(split, batch_size=size):
            of.update(zip(batch.indices.tolist(), batch.pictures))
    common = found[4].keys() & found[10].keys()
    assert len(common) > 30 and all(np.array_equal(found[4][i], found[10][i]) for i in common)


def test_epochs_and_seeds_differ_and_repeat(split):
    first = batches(split, mixup=MIXUP)
    assert_equal(batches(split, mixup=MIXUP), first)
    for other in (batches(split, mixup=MIXUP, epoch=1), batches(split, mixup=MIXUP, seed=1)):
        assert not np.array_equal(other[0].indices, first[0].indices)
        assert not np.array_equal(other[0].targets, first[0].targets)
    same = {i: p.tobytes() for batch in batches(split) for i, p in zip(batch.indices.tolist(), batch.pictures)}
    later = {
        i: p.tobytes() for batch in batches(split, epoch=1) for i, p in zip(batch.indices.tolist(), batch.pictures)
    }
    common = same.keys() & later.keys()  # of one colour each: some stay as they are in both epochs
    assert sum(same[i] == later[i] for i in common) < len(common) / 3


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_labels_and_indices_belong_together(split, workers):
    seen = []
    for batch in batches(split, EVALUATE, workers=workers):
        assert batch.pictures.dtype == np.float32 and batch.targets.dtype == np.int32
        assert np.array_equal(np.rint(batch.pictures[:, 0, 5, 5]), batch.indices)
        assert np.array_equal(np.rint(batch.pictures[:, 1, 5, 5]), batch.targets)
        assert (batch.weights == 1).all()
        seen += batch.indices.tolist()
    assert len(seen) == len(set(seen)) == 40 and seen != sorted(seen)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("batch_size", [8, 43, 100])
def test_evaluation_counts_each_sample_once(split, batch_size, ranks, workers):
    seen, shapes = [], set()
    for rank in range(ranks):
        options = {"rank": rank, "ranks": ranks, "workers": workers, "shuffle": False, "drop_last": False}
        for batch in batches(split, EVALUATE, batch_size=batch_size, **options):
            shapes.add(batch.pictures.shape)
            there = batch.weights > 0
            assert np.array_equal(there, batch.indices >= 0) and not batch.pictures[~there].any()
            assert np.array_equal(np.rint(batch.pictures[there, 0, 0, 0]), batch.indices[there])
            seen += batch.indices[there].tolist()
    assert sorted(seen) == list(range(43)) and len(shapes) == 1


def test_an_epoch_left_early_does_not_disturb_the_next(split):
    whole = batches(split, mixup=MIXUP, epoch=1)
    with Loader(split, AUGMENT, 0, 8, workers=2, mixup=MIXUP) as loader:
        next(loader.epoch(0))
        next(loader.epoch(1))
        assert_equal(list(loader.epoch(1)), whole)
        assert len(loader) == 5
    assert_equal(list(loader.epoch(1)), whole)  # closed: started anew
    loader.close()


def test_batches_may_be_kept(split):
    kept = batches(split, workers=2)
    assert_equal(kept, batches(split))
    assert all(batch.pictures.flags.owndata and batch.pictures.flags.writeable for batch in kept)


PLAIN = {"size": SIDE, "scale": (1, 1), "ratio": (1, 1), "flip": 0, "auto_augment": None, "color_jitter": 0}


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_are_mixed_as_their_targets_say(workers):
    """Each picture is a class of its own and of one colour, so that targets tell the weight, and pixels the mixing."""
    split, augment = in_memory(64, classes=64), Augment(**PLAIN, reprob=0)
    weights = []
    for kind in ({"cutmix": 0}, {"mixup": 0}):
        for batch in batches(split, augment, mixup=Mixup(64, smoothing=0, **kind), batch_size=16, workers=workers):
            own, other = batch.indices[:, None, None], batch.indices[::-1][:, None, None]
            weight = float(batch.targets[0, batch.indices[0]])
            assert np.allclose(batch.targets[np.arange(16), batch.indices], weight)
            assert np.allclose(batch.targets[np.arange(16), batch.indices[::-1]], 1 - weight, atol=1e-6)
            pixels = (batch.pictures[:, 0].astype(np.float64) * 0.5 + 0.5) * 255
            if "cutmix" in kind:  # mixed as 8-bit pixels, as the original's loader does
                wanted = np.rint(own * np.float32(weight) + other * np.float32(1 - weight)) + 0 * pixels
                np.testing.assert_allclose(pixels, wanted, atol=1e-4)
            else:
                inside = np.abs(pixels - other) < 1e-4
                assert (inside | (np.abs(pixels - own) < 1e-4)).all()
                assert np.allclose(inside.mean((1, 2)), 1 - weight, atol=1e-6)
            weights.append(weight)
    assert len(set(weights)) == len(weights) == 8


def test_pictures_are_erased_after_they_were_mixed():
    """The noise keeps its deviation, and lies elsewhere in each picture."""
    made = batches(in_memory(64), Augment(**PLAIN, reprob=1), mixup=Mixup(4, cutmix=0), batch_size=64)[0].pictures
    flat = np.array([np.median(picture) for picture in made[:, 2]])
    noisy = np.abs(made[:, 2] - flat[:, None, None]) > 1e-3
    assert noisy.sum() > 300 and abs(made[:, 2][noisy].std() - 1) < 0.15
    assert len({each.tobytes() for each in noisy}) > 50


def dataset(tmp_path, bad, each=100):
    """Two classes of `each`, of which these are damaged."""
    data = encoded(1, height=12, width=12)
    files = {f"{name}/{n:03}.png": data for name in ("ant", "bee") for n in range(each)}
    for number, name in enumerate(bad):
        files[name] = (b"", data[:60], b"nonsense", encoded(1, "JPEG")[:200])[number % 4]
    return open_split(write(tmp_path, files))


@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_pictures_are_named_counted_and_replaced(tmp_path, workers):
    split = dataset(tmp_path, ("ant/099.png", "bee/000.png"))
    with Loader(split, AUGMENT, 0, 20, workers=workers, mixup=Mixup(2)) as loader:
        indices = [batch.indices for epoch in range(2) for batch in loader.epoch(epoch)]
        names = sorted(name for name, _ in loader.corrupt)
        reasons = [reason for _, reason in loader.corrupt]
    assert names == [str(tmp_path / "ant/099.png"), str(tmp_path / "bee/000.png")]
    assert sum("empty" in reason for reason in reasons) == 1 and not any(str(tmp_path) in reason for reason in reasons)
    for epoch in (indices[:10], indices[10:]):
        counts = np.bincount(np.concatenate(epoch), minlength=200)
        # The class's next good one stands in; the last one's next is its first.
        assert counts[99] == counts[100] == 0 and counts[0] == counts[101] == 2 and counts.sum() == 200


def test_replacements_are_the_same_whatever_the_workers(tmp_path):
    split = dataset(tmp_path, ("ant/099.png", "bee/000.png"))
    assert_equal(batches(split, workers=3, mixup=Mixup(2)), batches(split, mixup=Mixup(2)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("each", "count"), [(100, 3), (50, 2)])
def test_more_than_one_in_a_hundred_is_an_error(tmp_path, workers, each, count):
    split = dataset(tmp_path, ("bee/000.png", "bee/040.png", "ant/040.png")[:count], each)
    with pytest.raises(DataError, match=rf"{count} of {2 * each} pictures .* more than 1 %") as error:
        batches(split, workers=workers)
    assert ".png: " in str(error.value) and "\n" not in str(error.value)


def test_several_processes_count_together(tmp_path):
    """Three of 200, of which neither process alone meets too many."""
    split = dataset(tmp_path, ("ant/000.png", "ant/010.png", "bee/040.png"))
    loaders = [Loader(split, EVALUATE, 0, 20, rank=rank, ranks=2, shuffle=False, drop_last=False) for rank in range(2)]
    for loader in loaders:
        assert len(list(loader.epoch(0))) == 10 and not loader.corrupt
    assert [len(loader.unreadable) for loader in loaders] == [2, 1]
    met = [row for loader in loaders for row in loader.unreadable]
    loaders[0].report_unreadable(met[1:] + met[1:])
    assert len(loaders[0].corrupt) == 2
    for loader in loaders:
        with pytest.raises(DataError, match=r"3 of 200 pictures .* more than 1 %") as error:
            loader.report_unreadable(met)
        assert error.value.raised_by_all and not loader.unreadable


def test_one_is_never_an_error(tmp_path):
    split = dataset(tmp_path, ("ant/000.png",), each=8)
    assert len(batches(split, batch_size=4)) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_a_class_without_a_readable_picture_is_an_error(tmp_path, workers):
    files = {**class_files(each=30, height=12, width=12), "cow/a.png": b"", "cow/b.png": b"x"}
    with pytest.raises(DataError, match="no picture of the class cow can be read"):
        batches(open_split(write(tmp_path, files)), batch_size=62, workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_leaves_corrupt_pictures_out(tmp_path, workers):
    split = dataset(tmp_path, ("ant/005.png",))
    with Loader(split, EVALUATE, 0, 64, workers=workers, shuffle=False, drop_last=False) as loader:
        made = list(loader.epoch(0))
        assert [name[-7:] for name, _ in loader.corrupt] == ["005.png"]
    weights, indices = (np.concatenate([getattr(batch, name) for batch in made]) for name in ("weights", "indices"))
    assert weights.sum() == 199 and indices[weights == 0].tolist() == [5] + [-1] * 56


class Faulty:
    shape = (3, 2, 2)

    def __call__(self, picture, rng):
        raise KeyError("a fault of ours")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fault_in_a_transform_shows_where(split, workers):
    with pytest.raises((KeyError, RuntimeError), match="a fault of ours") as error:
        batches(split, Faulty(), workers=workers)
    assert workers == 0 or "test_loader.py" in str(error.value)


class Noting:
    """Notes each picture in a file; makes no picture of a network that anything heavy was imported for."""

    shape = (1, 1, 1)

    def __init__(self, path):
        self.path = str(path)

    def __call__(self, picture, rng):
        with open(self.path, "a") as file:
            file.write("x")
        return np.full((1, 1, 1), "jittor" in sys.modules or "torch" in sys.modules, np.float32)


def test_workers_stay_ahead_by_a_bounded_number_of_batches_and_import_no_jittor(split, tmp_path):
    notes = tmp_path / "notes"
    with Loader(split, Noting(notes), 0, 2, workers=2) as loader:
        epoch = loader.epoch(0)
        assert not next(epoch).pictures.any()
        deadline = time.monotonic() + 20
        while notes.stat().st_size < 10 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        assert notes.stat().st_size == 10  # one batch taken, four ahead


def test_the_package_imports_no_jittor():
    code = "import sys, jvan.data.loader, jvan.data.worker, jvan.data.transforms; sys.exit('jittor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [({"batch_size": 44}, "43 pictures are fewer than a batch of 44"), ({"batch_size": 6, "ranks": 2}, "take 8")],
)
def test_what_cannot_be_loaded(split, options, words):
    with pytest.raises(DataError, match=words):
        batches(split, **options)


def test_an_empty_split_is_refused(split):
    with pytest.raises(DataError, match="no pictures"):
        batches(split.subset([]), drop_last=False)


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"rank": 2, "ranks": 2}, {"batch_size": 0}, {"seed": -1}])
def test_impossible_numbers(split, wrong):
    with pytest.raises(ValueError):
        batches(split, **wrong)


def test_picture_bytes_survive_the_way(tmp_path):
    """A PNG's own pixels, through files, workers and shared memory."""
    split = open_split(write(tmp_path, class_files(each=4, height=SIDE, width=SIDE)))
    for batch in batches(split, EVALUATE, batch_size=4, workers=2):
        for index, picture in zip(batch.indices, batch.pictures):
            with Image.open(split.name(index)) as original:
                assert np.array_equal(np.rint(picture).transpose(1, 2, 0), np.asarray(original))


def test_loaders_leave_no_descriptors_behind(split):
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    for _ in range(5):
        batches(split, workers=2)
    assert not before or len(set(os.listdir("/proc/self/fd")) - before) <= 1
