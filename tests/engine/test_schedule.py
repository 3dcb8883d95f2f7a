"""The schedule against numbers of timm 0.4.12's CosineLRScheduler, and at its corners."""

import pytest

from jvan.classification.task import ClassificationConfig
from jvan.engine.schedule import learning_rate

IMAGENET = ClassificationConfig("data", lr=1e-3, epochs=310, warmup_epochs=5, cooldown_epochs=10)
TIMM = {  # CosineLRScheduler(lr 1e-3, t_initial 300, lr_min 1e-6, warmup_t 5, warmup_lr_init 1e-6) at the start of an epoch
    0: 1e-06, 1: 0.0002008, 4: 0.0008002, 5: 0.0009993154526099096, 6: 0.0009990143508499217, 50: 0.0009330796891903272,
    150: 0.0005005, 299: 1.0273879019266845e-06, 300: 1e-06, 305: 1e-06, 309: 1e-06,
}  # fmt: skip


@pytest.mark.parametrize("epoch", TIMM)
def test_equals_timm_at_the_start_of_an_epoch(epoch):
    assert learning_rate(epoch * 1251, 1251, IMAGENET) == pytest.approx(TIMM[epoch], rel=1e-12)


def test_moves_within_an_epoch_and_only_up_in_warm_up():
    rates = [learning_rate(step, 100, IMAGENET) for step in range(31000)]
    rising = rates[:500]
    assert rising == sorted(rising) and len(set(rising)) == 500
    falling = rates[500:30000]
    assert falling == sorted(falling, reverse=True) and len(set(falling)) == len(falling)
    assert set(rates[30000:]) == {1e-6}


def test_without_warm_up_begins_at_the_peak():
    config = ClassificationConfig("data", lr=0.5, low_lr=0.1, epochs=4, warmup_epochs=0, cooldown_epochs=0)
    assert learning_rate(0, 10, config) == 0.5
    assert learning_rate(20, 10, config) == pytest.approx(0.3)


def test_fractions_of_an_epoch_warm_up():
    config = ClassificationConfig("data", lr=1.0, low_lr=0.0, epochs=2, warmup_epochs=0.2, cooldown_epochs=0)
    assert learning_rate(1, 10, config) == pytest.approx(0.5)
