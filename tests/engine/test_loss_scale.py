"""float16's loss scale: when it moves, what a skipped step leaves alone, who knows of an overflow, what comes after it."""

from dataclasses import replace

import jittor as jt
import numpy as np
import pytest

from jvan.classification.task import Classification, ClassificationConfig
from jvan.engine import loss_scale
from jvan.engine.drop_path import DropPathMasks
from jvan.engine.groups import parameters_of
from jvan.engine.loss_scale import LossScale
from jvan.engine.parallel import Processes
from jvan.engine.resume import Progress, Saved
from jvan.engine.run import Run
from jvan.engine.step import Flags, Gradients, Outcome

from .test_step import batch, network

CONFIG = ClassificationConfig(data="x", arch="van_b0", batch_size=8, dtype="float16", model_ema=0.9, lr=1e-3)


@pytest.fixture
def run(monkeypatch):
    """A run whose scale is float16's and whose maps, for want of a GPU, are float32; its first scale is 8."""
    monkeypatch.setattr("jvan.engine.run.FIRST", 8.0)
    made = Run(CONFIG, network(drop_path=0.1), Processes(), "data")
    made._gradients.dtype = "float32"
    return made


def overflow(outcome: Outcome) -> Outcome:
    """With the last parameter's gradient infinite in one place, as a float16 product leaves it."""
    last = outcome.gradients[-1].numpy().copy()
    last.flat[0] = np.inf
    return outcome._replace(gradients=[*outcome.gradients[:-1], jt.array(last)], finite=False)


def tensors(run):
    return {name: array.tobytes() for name, array in run._state().items()}


def step(run, lost=False):
    """One turn of the loop's body."""
    outcome = run.gradients(batch())
    if lost:
        outcome = overflow(outcome)
        assert run.can_skip(outcome)
        run.skip()
    else:
        run.update(outcome, 1e-3)


def test_it_doubles_after_two_thousand_good_steps_and_halves_at_once():
    scale, seen = LossScale(16.0), []
    for number in range(1, 6001):
        scale = scale.after(finite=number != 2500)
        seen.append(scale.value)
    assert [seen[i - 1] for i in (1, 1999, 2000, 2499, 2500, 4499, 4500, 6000)] == [16, 16, 32, 32, 16, 16, 32, 32]
    assert LossScale(loss_scale.LARGEST, loss_scale.PATIENCE - 1).after(True).value == loss_scale.LARGEST


def test_a_skipped_step_changes_nothing_but_the_scale(run):
    step(run)
    before, optimised, averaged = tensors(run), run.optimizer.steps, run.ema.steps
    step(run, lost=True)
    assert tensors(run) == before and (run.optimizer.steps, run.ema.steps) == (optimised, averaged) == (1, 1)
    assert run.progress == Progress(step=2, loss_scale=4.0, skipped=1)
    step(run)
    assert tensors(run) != before and run.progress == Progress(step=3, loss_scale=4.0, good_steps=1, skipped=1)


def test_the_scale_grows_again(run, monkeypatch):
    monkeypatch.setattr(loss_scale, "PATIENCE", 2)
    scales = []
    for lost in (True, False, False, False, False):
        step(run, lost)
        scales.append(run.progress.loss_scale)
    assert scales == [4, 4, 8, 8, 16]


def test_goes_on_bit_for_bit(run, monkeypatch, tmp_path):
    """From a state between a skipped step and the doubling that follows it."""
    monkeypatch.setattr(loss_scale, "PATIENCE", 2)
    for lost in (False, True, False):
        step(run, lost)
    arrays = {name: array.copy() for name, array in run._state().items()}
    other = Run(CONFIG, network(drop_path=0.1), Processes(), "data")
    other._gradients.dtype = "float32"
    other.go_on_from(Saved(tmp_path, arrays, run.progress, CONFIG.to_json(), "data"))
    for _ in range(2):
        step(run), step(other)
    assert run.progress == other.progress and run.progress.loss_scale == 8.0
    assert tensors(run) == tensors(other)


def test_a_scale_below_one_a_loss_that_is_not_finite_and_other_precisions_end_the_run(run):
    lost = Outcome(1.5, {}, [], jt.array([np.inf]), False, Flags())
    for scale, helps in ((4.0, True), (2.0, True), (1.0, False)):
        run.progress = replace(run.progress, loss_scale=scale)
        assert run.can_skip(lost) is helps
    run.progress = replace(run.progress, loss_scale=4.0)
    assert not run.can_skip(lost._replace(loss=float("nan"))) and not run.can_skip(lost._replace(finite=True))
    for dtype in ("float32", "bfloat16"):
        other = Run(replace(CONFIG, dtype=dtype), network(), Processes(), "data")
        assert other.progress.loss_scale == 1.0 and not other.can_skip(lost)


def test_other_precisions_keep_the_scale_of_one(monkeypatch):
    monkeypatch.setattr(loss_scale, "PATIENCE", 1)
    other = Run(replace(CONFIG, dtype="float32"), network(), Processes(), "data")
    step(other)
    assert other.progress == Progress(step=1)


class TwoProcesses(Processes):
    """This one, and another whose gradients are given."""

    def __init__(self, other: float):
        super().__init__()
        self.count, self._other = 2, other

    def differentiable_mean(self, variable):
        return (variable + jt.full(variable.shape, self._other)) / 2


@pytest.mark.parametrize(("other", "finite"), [(0.0, True), (np.inf, False), (np.nan, False)])
def test_all_processes_skip_alike(other, finite):
    model = network()
    plan = DropPathMasks(model, 0, 8, np.arange(8))
    gradients = Gradients(model, parameters_of(model), plan, TwoProcesses(other), 1, Classification().loss)
    assert gradients(batch(), 0, 8.0).finite is finite


def test_scaled_gradients_are_those_of_the_loss():
    """A power of two scales exactly, so that the same bits come back; in two parts."""
    found = []
    for scale in (1.0, 2.0**10):
        model = network()
        plan = DropPathMasks(model, 0, 8, np.arange(8))
        gradients = Gradients(model, parameters_of(model), plan, Processes(), 2, Classification().loss)
        outcome = gradients(batch(), 0, scale)
        found.append([outcome.loss, *(g.numpy() for g in outcome.gradients)])
    for plain, scaled in zip(*found):
        np.testing.assert_array_equal(plain, scaled)
