"""Training's transforms against timm 0.4.12's, as weights_convert/record_augment.py recorded them."""

import functools
import itertools
import types
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from jvan.data import auto_augment, crops, erasing, seeds, transforms
from jvan.data.operations import INCREASING
from jvan.data.transforms import Augment
from jvan.errors import DataError, PictureError

DRAWS = 6000


@functools.lru_cache
def recorded():
    with np.load(Path(__file__).parents[1] / "golden" / "augment.npz") as archive:
        return dict(archive)


def generator(*key):
    return seeds.generator(seeds.SAMPLE, *key)


def assert_distributed(values, key):
    """Kolmogorov's distance between the values and the recorded distribution: chance alone exceeds this once in 10,000."""
    levels, quantiles = recorded()["levels"], recorded()[key]
    values = np.sort(np.asarray(values, float))
    reached = np.searchsorted(values, quantiles + 1e-9, side="right") / len(values)
    before = np.searchsorted(values, quantiles - 1e-9, side="left") / len(values)
    # A value that many draws share covers a range of levels.
    distance = np.maximum(before - levels, levels - reached).max()
    assert distance < 2.23 / np.sqrt(len(values)), f"{key}: {distance}"


def assert_share(hits, total, share):
    """Within 4.5 standard errors."""
    assert abs(hits / total - share) < 4.5 * np.sqrt(share * (1 - share) / total) + 1e-9, (hits / total, share)


def operations():
    with np.load(Path(__file__).parents[1] / "golden" / "augment.npz") as archive:
        return [key for key in archive.files if key.startswith("operation/") and key.count("/") == 4]


@pytest.mark.parametrize("key", operations())
def test_an_operation_is_timms(key):
    golden = recorded()
    _, name, level, sign, resample = key.split("/")
    picture, fill = Image.fromarray(golden["operation/picture"]), tuple(map(int, golden["operation/fill"]))
    step = auto_augment.Step(name, float(level), int(sign), int(resample))
    made = np.asarray(auto_augment.apply([step], picture, fill)).astype(int)
    difference = np.abs(made - golden[key])
    if str(golden["pillow"]) == PIL.__version__:
        assert difference.max() == 0
    else:  # another release of Pillow may round otherwise here and there
        assert difference.max() <= 2 or np.mean(difference > 2) < 0.01


def test_every_operation_was_recorded():
    assert {key.split("/")[1] for key in operations()} == set(INCREASING) == set(recorded()["rand/names"])


@pytest.mark.parametrize(("width", "height"), [(500, 375), (60, 400)])
def test_resized_crops_are_drawn_as_timm_draws_them(width, height):
    drawn = [crops.draw_crop(width, height, (0.08, 1.0), (3 / 4, 4 / 3), generator(3, n)) for n in range(DRAWS)]
    top, left, tall, wide = np.array(drawn, float).T
    prefix = f"crop/{width}x{height}"
    assert_distributed(tall * wide / (width * height), f"{prefix}/area/quantiles")
    assert_distributed(np.log(wide / tall), f"{prefix}/log_aspect/quantiles")
    assert_distributed(top, f"{prefix}/top/quantiles")
    assert_distributed(left, f"{prefix}/left/quantiles")
    assert (top + tall <= height).all() and (left + wide <= width).all()


def test_rand_augment_is_drawn_as_timm_draws_it():
    golden = recorded()
    augment = auto_augment.parse("rand-m9-mstd0.5-inc1")
    drawn = [augment.draw(generator(4, n)) for n in range(2 * DRAWS)]
    counts = np.bincount([len(steps) for steps in drawn], minlength=3)
    for count, share in zip(counts, golden["rand/applied"]):
        assert_share(count, len(drawn), share)
    steps = [step for each in drawn for step in each]
    names = [step.name for step in steps]
    for name, share in zip(golden["rand/names"], golden["rand/shares"]):
        assert_share(names.count(name), len(steps), share)
    levels = np.array([step.level for step in steps])
    assert_distributed(levels, "rand/level/quantiles")
    assert_share((levels == 10).sum(), len(levels), float(golden["rand/level/clipped"]))
    assert_share(sum(step.sign < 0 for step in steps), len(steps), 0.5)
    assert_share(sum(step.resample == Image.Resampling.BICUBIC for step in steps), len(steps), 0.5)


def test_rand_augment_repeats_operations():
    augment = auto_augment.parse("rand-m9-mstd0.5-n9-inc1")
    drawn = [[step.name for step in augment.draw(generator(5, n))] for n in range(300)]
    assert any(len(set(names)) < len(names) for names in drawn) and max(map(len, drawn)) > 6


@pytest.mark.parametrize(("height", "width"), [(224, 224), (40, 160)])
def test_boxes_are_erased_as_timm_erases_them(height, width):
    golden, prefix = recorded(), f"erase/{height}x{width}"
    drawn = [erasing.draw_box(height, width, 0.25, generator(6, n)) for n in range(4 * DRAWS)]
    boxes = np.array([box for box in drawn if box], float)
    assert_share(len(boxes), len(drawn), float(golden[f"{prefix}/share"]))
    top, left, tall, wide = boxes.T
    assert_distributed(tall * wide / (height * width), f"{prefix}/area/quantiles")
    assert_distributed(np.log(tall / wide), f"{prefix}/log_aspect/quantiles")
    assert_distributed(top, f"{prefix}/top/quantiles")
    assert_distributed(left, f"{prefix}/left/quantiles")


def test_erasing_writes_standard_normal_noise_and_nothing_else():
    picture = np.full((3, 100, 100), 9, np.float32)
    seed = next(n for n in range(50) if (erasing.draw_box(100, 100, 1, generator(7, n)) or (0,) * 4)[2] > 25)
    top, left, tall, wide = erasing.draw_box(100, 100, 1, generator(7, seed))
    erasing.erase(picture, 1, generator(7, seed))
    inside = picture[:, top : top + tall, left : left + wide]
    assert (picture == 9).sum() == 3 * (100 * 100 - tall * wide)
    mean, deviation = recorded()["erase/noise"]
    assert abs(inside.mean() - mean) < 0.08 and abs(inside.std() - deviation) < 0.08
    assert not np.array_equal(inside[0], inside[1])


@pytest.mark.parametrize("kind", ["rand", "jitter"])
def test_the_whole_transform_gives_what_timms_gives_on_average(kind):
    golden = recorded()
    auto = "rand-m9-mstd0.5-inc1" if kind == "rand" else None
    augment = Augment(size=32, auto_augment=auto, mean=tuple(golden["mean"]), std=tuple(golden["std"]))
    picture = Image.fromarray(golden["whole/picture"])
    draws = 5000
    total = np.zeros((2, 3, 4, 4))
    for n in range(draws):
        fields = augment(picture, generator(8, n)).reshape(3, 4, 8, 4, 8)
        total += np.stack([fields.mean((2, 4)), (fields**2).mean((2, 4))])
    theirs, count = golden[f"whole/{kind}/mean"], int(golden[f"whole/{kind}/draws"])
    error = golden[f"whole/{kind}/deviation"] * np.sqrt(1 / draws + 1 / count)
    assert np.abs((total / draws - theirs) / error).max() < 4.8  # 96 figures


def test_normalisation_is_inferences():
    from jvan.pictures.preprocess import preprocess
    from jvan.preprocessing import Preprocessing

    picture = Image.fromarray(recorded()["whole/picture"]).crop((0, 0, 40, 40))
    augment = Augment(size=40, scale=(1, 1), ratio=(1, 1), flip=0, auto_augment=None, color_jitter=0, reprob=0)
    wanted = preprocess(picture, Preprocessing(40, 1.0, "bicubic", augment.mean, augment.std))
    assert np.array_equal(augment(picture, generator(0)), wanted)


def test_reflected_crops_take_each_of_the_81_places():
    source = np.random.default_rng(0).integers(1, 256, (8, 8, 3), dtype=np.uint8)
    around = np.pad(source, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    wanted = {around[y : y + 8, x : x + 8].tobytes() for y in range(9) for x in range(9)}
    augment = Augment(size=8, crop="reflected", flip=0, auto_augment=None, color_jitter=0, reprob=0)
    drawn = [augment.pixels(Image.fromarray(source), generator(9, n)) for n in range(2000)]
    seen = [each.transpose(1, 2, 0).tobytes() for each in drawn]
    assert set(seen) == wanted and len(wanted) == 81
    assert max(map(seen.count, wanted)) < 3 * len(seen) / 81


def test_half_of_the_pictures_are_flipped():
    source = np.arange(12, dtype=np.uint8).reshape(1, 4, 3).repeat(4, 0)
    augment = Augment(size=4, scale=(1, 1), ratio=(1, 1), auto_augment=None, color_jitter=0, reprob=0)
    first = [augment.pixels(Image.fromarray(source), generator(10, n))[0, 0, 0] for n in range(2000)]
    assert set(first) == {0, 9}
    assert_share(first.count(9), len(first), 0.5)


def test_colour_jitter_is_applied_in_each_order(monkeypatch):
    orders = []

    def noting(name):
        def enhancer(picture):
            orders[-1].append(name)
            return types.SimpleNamespace(enhance=lambda factor: picture)

        return enhancer

    monkeypatch.setattr(transforms, "JITTERED", tuple(map(noting, "bcs")))
    for n in range(600):
        orders.append([])
        transforms.jitter(None, 0.4, generator(12, n))
    shares = [orders.count(list(order)) for order in itertools.permutations("bcs")]
    assert sum(shares) == 600 and min(shares) > 60


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 300), (301, 1), (33, 31)])
@pytest.mark.parametrize("crop", ["resized", "reflected"])
def test_odd_sizes(size, crop):
    augment = Augment(size=16, crop=crop)
    picture = Image.new("RGB", size, (90, 120, 150))
    for n in range(20):
        made = augment(picture, generator(11, n))
        assert made.shape == (3, 16, 16) and made.dtype == np.float32 and np.isfinite(made).all()


def test_a_line_of_pixels_is_refused_before_it_fills_the_memory():
    with pytest.raises(PictureError, match="too thin"):
        Augment(size=64, crop="reflected")(Image.new("RGB", (60_000, 1)), generator(0))


@pytest.mark.parametrize(
    "text", ["rand-m9-mstd0.5", "augmix-m3", "rand-m11-inc1", "rand-m9-n0-inc1", "v0", "rand-m9-q1-inc1"]
)
def test_other_augmentations_are_refused_by_name(text):
    with pytest.raises(DataError, match=text):
        Augment(auto_augment=text)


def test_other_crops_are_refused():
    with pytest.raises(ValueError, match="random"):
        Augment(crop="random")
