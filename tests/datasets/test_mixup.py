"""Mixup and CutMix against timm 0.4.12's."""

import numpy as np
import pytest

from jvan.data import seeds
from jvan.data.mixup import Mix, Mixup

from .test_augment import assert_distributed, assert_share, recorded


@pytest.mark.parametrize("name", ["mixup", "cutmix", "none"])
def test_a_batch_is_mixed_as_timms_loader_mixes_it(name):
    golden = recorded()
    mix = Mix(float(golden[f"mix/{name}/weight"]), tuple(map(int, golden[f"mix/{name}/box"])) or None)
    pictures, labels = golden["mix/pictures"], golden["mix/labels"]
    mixed = mix.pictures(pictures)
    assert mixed.dtype == np.uint8 and np.array_equal(mixed, golden[f"mix/{name}/pictures"])
    targets = mix.targets(labels, 7, 0.1)
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets, golden[f"mix/{name}/targets"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)


def test_float_pictures_are_not_rounded():
    pictures = np.random.default_rng(0).normal(size=(4, 3, 5, 5)).astype(np.float32)
    mixed = Mix(0.3).pictures(pictures)
    np.testing.assert_allclose(mixed, 0.3 * pictures + 0.7 * pictures[::-1], atol=1e-6)


def test_weights_and_boxes_are_drawn_as_timm_draws_them():
    drawn = [Mixup(7).draw(64, 64, seeds.generator(seeds.MIX, 0, n)) for n in range(12_000)]
    cut = [mix for mix in drawn if mix.box is not None]
    assert_share(len(cut), len(drawn), float(recorded()["mix/cut"]))
    assert_distributed([mix.weight for mix in drawn if mix.box is None], "mix/mixup/quantiles")
    assert_distributed([mix.weight for mix in cut], "mix/cutmix/quantiles")
    top, bottom, left, right = np.array([mix.box for mix in cut]).T
    assert_distributed(top, "mix/top/quantiles")
    assert_distributed(left, "mix/left/quantiles")
    assert_distributed(bottom - top, "mix/height/quantiles")
    assert_distributed(right - left, "mix/width/quantiles")


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({"mixup": 0, "cutmix": 0}, {"none"}),
        ({"cutmix": 0}, {"mixup"}),
        ({"mixup": 0}, {"cutmix"}),
        ({"prob": 0}, {"none"}),
        ({"prob": 0.5}, {"none", "mixup", "cutmix"}),
        ({"switch": 0}, {"mixup"}),
    ],
)
def test_switches(options, kinds):
    mixup = Mixup(3, **options)
    drawn = [mixup.draw(16, 16, seeds.generator(seeds.MIX, 1, n)) for n in range(200)]
    assert {"cutmix" if mix.box else "none" if mix == Mix() else "mixup" for mix in drawn} == kinds


def test_smoothing_alone_is_label_smoothing():
    mix = Mixup(4, mixup=0, cutmix=0).draw(4, 4, seeds.generator(seeds.MIX, 2, 0))
    targets = mix.targets(np.array([3, 0]), 4, smoothing=0.2)
    np.testing.assert_allclose(targets, [[0.05, 0.05, 0.05, 0.85], [0.85, 0.05, 0.05, 0.05]], atol=1e-7)


def test_an_odd_batch_keeps_its_middle():
    pictures = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 2, 2), np.uint8) * 10
    assert Mix(0.25).pictures(pictures)[:, 0, 0, 0].tolist() == [15, 10, 5]
