"""A step's gradient, loss and statistics: parts of a batch, drop path, training against the official code, what is not finite."""

from types import SimpleNamespace

import jittor as jt
import numpy as np
import pytest

from jvan.classification.loss import soft_cross_entropy
from jvan.classification.task import Classification
from jvan.engine.drop_path import DropPathMasks
from jvan.engine.ema import Ema
from jvan.engine.groups import parameters_of
from jvan.engine.optimizer import squared_norm
from jvan.engine.parallel import Processes
from jvan.engine.step import Flags, Gradients, all_finite
from jvan.models.factory import build
from jvan.models.loading import assign
from jvan.variants import VANConfig
from weights_convert.random_state import SMALL, official_shapes, random_state
from weights_convert.record_training import EXCEPTIONS, GOLDEN, SMALL_RUN, small_batches, train_in_jvan

CONFIG = VANConfig(embed_dims=SMALL["embed_dims"], depths=SMALL["depths"], num_classes=10)


def network(drop_path=0.0):
    model = build(CONFIG, drop_path_rate=drop_path)
    assign(model, random_state(official_shapes(**SMALL)), allow_missing=("",))
    return model


def batch(size=8):
    pictures, labels = next(small_batches())
    targets = np.eye(10, dtype=np.float32)[labels] * np.float32(0.9) + np.float32(0.01)
    return SimpleNamespace(pictures=pictures[:size], targets=targets[:size])


def gradients(model, parts=1, seed=0, size=8):
    plan = DropPathMasks(model, seed, size, np.arange(size))
    return Gradients(model, parameters_of(model), plan, Processes(), parts, Classification().loss)


def test_soft_cross_entropy_in_float64():
    logits, targets = np.random.default_rng(0).normal(0, 5, (6, 10)), batch(6).targets
    exact = logits - logits.max(1, keepdims=True)
    exact = -(targets * (exact - np.log(np.exp(exact).sum(1, keepdims=True)))).sum(1).mean()
    found = soft_cross_entropy(jt.array(logits.astype(np.float32)), jt.array(targets)).item()
    assert found == pytest.approx(exact, rel=1e-5)


def test_training_follows_the_official_code():
    recorded = np.load(GOLDEN)
    model = network()
    losses = train_in_jvan(model, small_batches(), SMALL_RUN)
    exact = recorded["small/float64/loss"]
    plain = np.abs(recorded["small/float32/loss"] - exact)
    assert (np.abs(losses - exact) <= 1e-4 * np.abs(exact) + 2 * plain).all(), (losses, exact)
    assert np.abs(exact - exact[0]).max() > 0.1  # so that a network that does not learn is seen
    for name, value in model.state_dict().items():
        if name not in EXCEPTIONS:
            theirs = recorded[f"small/float64/{name}"]
            assert np.abs(value.numpy() - theirs).max() <= 1e-2 * np.abs(theirs).max(), name


def test_parts_add_up_to_the_whole_batch():
    model = network()
    model.eval()  # the statistics of a batch are those of its parts only without BatchNorm's training mode
    for parameter in parameters_of_eval(model):
        parameter.start_grad()
    whole, parted = gradients(model)(batch(), 0), gradients(model, parts=4)(batch(), 0)
    assert parted.loss == pytest.approx(whole.loss, rel=1e-6)
    for one, two in zip(whole.gradients, parted.gradients):
        one, two = one.numpy(), two.numpy()
        assert np.abs(one - two).max() <= 1e-4 * np.abs(one).max() + 1e-7


def test_blocks_computed_again_have_the_same_masks():
    """Gradient checkpointing, with drop path, in a batch of two parts: nothing changes but the memory."""
    plain, again = (gradients(model, parts=2, seed=5)(batch(), 3) for model in networks_to_compare())
    assert again.loss == plain.loss
    for one, two in zip(plain.gradients, again.gradients):
        one, two = one.numpy(), two.numpy()
        assert np.abs(one - two).max() <= 1e-5 * np.abs(one).max() + 1e-8
    other = gradients(network(0.6), parts=2, seed=6)(batch(), 3)
    assert other.loss != plain.loss, "the masks drop something"


def networks_to_compare():
    models = network(0.6), network(0.6)
    models[1].set_grad_checkpointing(True)
    return models


def parameters_of_eval(model):
    return [value for name, value in model.named_parameters() if ".running_" not in name]


def test_a_picture_that_is_not_finite_changes_nothing():
    model = network()
    step = gradients(model)
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    assert step(batch(), 0).finite
    step.undo()
    bad = batch()
    bad.pictures = bad.pictures.copy()
    bad.pictures[3, 1, 5, 5] = np.nan
    outcome = step(bad, 1, flags=Flags(stop=True))
    assert not outcome.finite and outcome.flags == Flags(stop=True)
    step.undo()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name], err_msg=name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [1, 3, 16, 37, 5000])
def test_one_number_that_is_not_finite_is_found_wherever_it_is(size, value):
    for place in {0, size // 2, size - 1}:
        values = np.random.default_rng(place).normal(size=size).astype(np.float32)
        values[place] = value
        found = [jt.ones((2, 3)), jt.array(values), jt.ones((5,))]
        assert not all_finite(found, squared_norm(found).item()), place
    assert all_finite([found[0], found[2]], squared_norm([found[0], found[2]]).item())


def test_gradients_whose_squares_overflow_are_finite():
    large = [jt.array(np.float32([3e38, 1.0])), jt.ones((2, 3))]
    square = squared_norm(large).item()
    assert square == np.inf and all_finite(large, square)


def masks(model, plan, step, part=slice(None)):
    plan.begin(step, part)
    count = len(plan.numbers[0])
    blocks = [block for stage in range(1, 5) for block in getattr(model, f"block{stage}")]
    return np.stack([block.drop_path.factors(count).numpy() for block in blocks for _ in range(2)])


def test_drop_path_depends_on_step_and_place_alone():
    model = network(drop_path=0.5)
    whole = masks(model, DropPathMasks(model, 7, 8, np.arange(8)), 3)
    again = masks(model, DropPathMasks(model, 7, 8, np.arange(8)), 3)
    np.testing.assert_array_equal(whole, again)
    places = np.array([0, 1, 6, 7])
    np.testing.assert_array_equal(whole[:, places], masks(model, DropPathMasks(model, 7, 8, places), 3))
    np.testing.assert_array_equal(whole[:, 4:], masks(model, DropPathMasks(model, 7, 8, np.arange(8)), 3, slice(4, 8)))
    assert (whole != masks(model, DropPathMasks(model, 7, 8, np.arange(8)), 4)).any()
    assert (whole != masks(model, DropPathMasks(model, 8, 8, np.arange(8)), 3)).any()
    assert (whole[-2] != whole[-1]).any()


def test_drop_path_drops_as_often_as_it_should_and_keeps_the_mean():
    model = network(drop_path=0.4)
    plan = DropPathMasks(model, 0, 4000, np.arange(4000))
    found = masks(model, plan, 0)
    for row, rate in zip(found, np.repeat([0, 0.1, 0.2, 0.3, 0.4], 2)):
        assert set(np.unique(row)) <= {np.float32(0), np.float32(1) / np.float32(1 - rate)}
        assert row.mean() == pytest.approx(1, abs=0.05) and (row == 0).mean() == pytest.approx(rate, abs=0.03)


def test_averages_follow_their_formula_and_their_state():
    model = network()
    ema = Ema(model, 0.3)
    name = "head.weight"
    wanted = model.state_dict()[name].numpy().astype(np.float64)
    for step in range(1, 6):
        weight = model.state_dict()[name]
        weight.update(weight + step)
        ema.update()
        decay = min(0.3, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * weight.numpy()
        np.testing.assert_allclose(ema.state()[name], wanted, rtol=1e-5)
        if step == 3:
            kept = {key: value.copy() for key, value in ema.state().items()}
            other = Ema(model, 0.3)
            other.load(kept, 3)
        if step > 3:
            other.update()
            assert all(ema.state()[key].tobytes() == other.state()[key].tobytes() for key in kept)
    assert {key for key in kept if "running" in key}
