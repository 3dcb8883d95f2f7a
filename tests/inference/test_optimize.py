"""The fused network against numpy in float64, the plain one and the recordings of the original PyTorch code."""

import re

import jittor as jt
import numpy as np
import pytest

from jvan.inference import optimize, plan
from jvan.inference.optimize import InferenceVAN, optimize_for_inference
from jvan.models import build
from jvan.models.loading import assign
from jvan.models.van import VANFeatures
from jvan.ops import _jit
from jvan.variants import VANConfig, variant_config
from tests import float64
from tests.inference.random_network import random_tensors
from tests.models.recorded import error, network, picture, recording, section
from weights_convert.random_state import SMALL, positions, stream

BAR = 1e-5  # of the largest value
WIDE = {"embed_dims": (32, 64, 40, 96), "depths": (1, 1, 2, 1), "mlp_ratios": (8, 4, 3, 2), "num_classes": 37}


def plain_network(config: VANConfig, **options):
    """Every tensor random, BatchNorm's statistics too."""
    model = build(config, **options)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assign(model, random_tensors(shapes))
    model.eval()
    return model


def pictures(*shape):
    return jt.array(stream(str(shape)).standard_normal(shape).astype(np.float32))


def fused(model):
    """The operator itself: never the plain network that `optimize_for_inference` falls back to."""
    return InferenceVAN(model)


def exact(model, config, x):
    """Logits and the four stages' maps in float64: the plain network's own operators are kernels too."""
    logits, maps = float64.network(x.numpy(), {n: v.numpy() for n, v in model.state_dict().items()}, config)
    assert all(np.abs(values).max() > 1e-3 for values in (logits, *maps))
    return logits, maps


def compare(config, x, bar=BAR):
    model = plain_network(config)
    logits, maps = exact(model, config, x)
    fast = fused(model)
    assert error(fast(x).numpy(), logits) <= bar
    for ours, theirs in zip(fast._run(x, wanted=(0, 1, 2, 3))[1], maps):
        assert error(ours.numpy(), theirs) <= bar


@pytest.mark.parametrize("arch", ["van_b0", "van_b1", "van_b2", "van_b3"])
def test_recorded_logits_and_maps(arch):
    golden = recording(arch)
    model = fused(network(variant_config(arch), section(golden, "statistics/")))
    for size in ("224x224", "193x257"):
        logits, maps = model._run(picture(size), wanted=(0, 1, 2, 3), logits=True)
        assert error(logits.numpy(), golden[f"{size}/logits"]) <= 1e-4
        for i, values in enumerate(maps, start=1):
            key = f"{size}/stage{i}"
            assert tuple(values.shape) == tuple(golden[f"{key}/shape"])
            sample = values.numpy().ravel()[positions(key, values.numel())]
            assert np.abs(sample - golden[f"{key}/values"]).max() <= 1e-4 * golden[f"{key}/max"], key


@pytest.mark.parametrize("shape", [(1, 3, 224, 224), (2, 3, 193, 257)])
def test_the_plain_b0(shape):
    model, x = plain_network(variant_config("van_b0")), pictures(*shape)
    want = model(x).numpy()
    assert np.abs(want).max() > 1e-3
    assert error(fused(model)(x).numpy(), want) <= BAR


@pytest.mark.parametrize("width", [None, 32, 16], ids=["processor's", "AVX2", "128 bits"])
@pytest.mark.parametrize("threads", ["1", "2", "3"])
@pytest.mark.parametrize("widths", [SMALL, WIDE], ids=["small", "wide"])
def test_vector_widths_and_threads(monkeypatch, widths, threads, width):
    monkeypatch.setattr(_jit, "vector_bytes", width)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    compare(VANConfig(**widths), pictures(2, 3, 75, 101))


@pytest.mark.parametrize("threads", ["1", "2"])
def test_hidden_maps_in_pieces(monkeypatch, threads):
    monkeypatch.setattr(plan, "CACHE", 1)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    compare(VANConfig(**{**WIDE, "mlp_ratios": (5, 4, 6, 3)}), pictures(1, 3, 130, 101))


@pytest.mark.parametrize("count", [1, 2, 3, 17, 64])
def test_batches(count):
    config = VANConfig(**WIDE)
    plain, x = plain_network(config), pictures(count, 3, 64, 64)
    model = fused(plain)
    together = model(x).numpy()
    assert error(together, exact(plain, config, x)[0]) <= BAR
    for i in range(count):
        assert error(model(x[i : i + 1]).numpy(), together[i : i + 1]) <= BAR
    assert len({row.tobytes() for row in together}) == count


@pytest.mark.parametrize("size", [(32, 32), (33, 57), (193, 257), (1, 1), (20, 500)])
@pytest.mark.parametrize("widths", [SMALL, WIDE], ids=["small", "wide"])
def test_sizes(size, widths):
    compare(VANConfig(**widths), pictures(1, 3, *size))


@pytest.mark.parametrize("gate", ["multiply", "add", "none", "sigmoid"])
@pytest.mark.parametrize("parts", [("dw", "dw_d", "pw"), ("dw", "dw_d"), ("dw_d", "pw"), ("dw", "pw"), ("pw",)])
def test_ablations(parts, gate):
    compare(VANConfig(**SMALL, lka_parts=parts, gate=gate), pictures(1, 3, 70, 49))


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel_size": 7}, {"kernel_size": 14, "dilation": 2}, {"kernel_size": 28, "dilation": 4},
        {"kernel_size": 12, "dilation": 2}, {"kernel_size": 5, "dilation": 1}, {"in_chans": 1}, {"in_chans": 5},
        {"stem_stride": 2}, {"num_classes": 0}, {"norm_eps": 1e-3},
    ],
    ids=str,
)  # fmt: skip
def test_constructor_arguments(changes):
    config = VANConfig(**{**SMALL, **changes})
    compare(config, pictures(2, config.in_chans, 65, 48))


@pytest.mark.parametrize("indices", [(0, 1, 2, 3), (2,), (3, 1)])
def test_features(indices):
    config = VANConfig(**{**WIDE, "num_classes": 0})
    model = plain_network(VANConfig(**WIDE), out_indices=indices)
    x = pictures(2, 3, 75, 101)
    maps, fast = exact(model, config, x)[1], fused(model)
    assert fast.feature_info == model.feature_info and fast.out_indices == indices
    found = fast(x)
    assert len(found) == len(indices)
    for i, ours in zip(indices, found):
        assert error(ours.numpy(), maps[i]) <= BAR


def test_the_parts_of_a_call():
    model = plain_network(VANConfig(**SMALL))
    fast, x = fused(model), pictures(2, 3, 64, 64)
    features = fast.forward_features(x)
    assert error(features.numpy(), model.forward_features(x).numpy()) <= BAR
    assert error(fast.forward_head(features).numpy(), fast(x).numpy()) <= BAR
    for name in ("in_chans", "num_features", "num_classes", "feature_info", "metadata", "pretrained_cfg"):
        assert getattr(fast, name) == getattr(model, name)
    assert fast.get_classifier().weight.shape == model.head.weight.shape


@pytest.mark.parametrize("width", [None, 32], ids=["processor's", "portable"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_bfloat16(monkeypatch, width, threads):
    monkeypatch.setattr(_jit, "vector_bytes", width)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    config = VANConfig(**WIDE)
    model = plain_network(config)
    fast = InferenceVAN(model, "bfloat16")
    assert "bfloat16" in fast.arithmetic and ("no AVX512-BF16" in fast.arithmetic or width is None)
    for shape in [(1, 3, 130, 101), (3, 3, 64, 64)]:
        x = pictures(*shape)
        assert 1e-4 < error(fast(x).numpy(), exact(model, config, x)[0]) <= 3e-2


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("shape", [(1, 3, 130, 101), (3, 3, 64, 64)])
def test_bfloat16_in_emulated_tiles(monkeypatch, shape, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    model, x = plain_network(VANConfig(**WIDE)), pictures(*shape)

    def run(dtype, amx):
        monkeypatch.setattr(_jit, "amx", amx)
        fast = InferenceVAN(model, dtype)
        assert ("emulated AMX" in fast.arithmetic) == (amx == 2)
        logits, maps = fast._run(x, wanted=(0,), logits=True)
        return logits.numpy(), maps[0].numpy()

    def distance(a, b):
        return np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2))

    exact, dots, tiles = run("float32", None), run("bfloat16", 0), run("bfloat16", 2)
    # Sums in another order make a value that lies between two of bfloat16 go the other way: one block later that is a 25th of
    # bfloat16's own error, at the end half of it. So it is between kernels of 32 and 64 bytes, neither with tiles.
    assert 0 < distance(tiles[1], dots[1]) <= 0.1 * distance(dots[1], exact[1])
    assert distance(tiles[0], exact[0]) <= 2 * distance(dots[0], exact[0])


@pytest.mark.parametrize(
    "changes",
    [{"gate": "sigmoid", "lka_parts": ("dw", "pw")}, {"gate": "add"}, {"gate": "none", "lka_parts": ("pw",)}, {"in_chans": 1},
     {"num_classes": 0}, {"stem_stride": 2}],
    ids=str,
)  # fmt: skip
def test_bfloat16_constructor_arguments(changes):
    config = VANConfig(**{**SMALL, **changes})
    model, x = plain_network(config), pictures(3, config.in_chans, 65, 48)
    assert 1e-5 < error(InferenceVAN(model, "bfloat16")(x).numpy(), exact(model, config, x)[0]) <= 3e-2


@pytest.mark.parametrize("dtype, bar", [("float32", BAR), ("bfloat16", 3e-2)])
def test_a_middle_narrower_than_the_block(monkeypatch, dtype, bar):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    model = VANFeatures((64,) * 4, (1,) * 4, (0.5,) * 4, out_indices=(0, 3))
    model.eval()
    fast = InferenceVAN(model, dtype)
    for size in (48, 64):
        x = pictures(2, 3, size, size)
        for ours, theirs in zip(fast(x), model(x)):
            assert error(ours.numpy(), theirs.numpy()) <= bar


@pytest.mark.parametrize("name, value", [("ROUNDED", plan.ROUNDED), ("BLOCK", plan.BLOCK)])
def test_numbers_that_the_kernels_have_too(name, value):
    text = "".join(path.read_text() for path in _jit.KERNELS.glob("*.h"))
    (found,) = set(re.findall(rf"constexpr int(?:64_t)? {name} = (\d+)", text))
    assert int(found) == value


# README.md names these bars. Rounding adds up over the blocks: B0 and B1 have 13 and 10, B2 and B3 21 and 38.
@pytest.mark.parametrize("arch, bar", [("van_b0", 1e-2), ("van_b1", 1e-2), ("van_b2", 2.5e-2), ("van_b3", 2.5e-2)])
def test_bfloat16_recorded_logits(arch, bar):
    golden = recording(arch)
    fast = InferenceVAN(network(variant_config(arch), section(golden, "statistics/")), "bfloat16")
    for size in ("224x224", "193x257"):
        assert error(fast(picture(size)).numpy(), golden[f"{size}/logits"]) <= bar


def test_it_is_a_copy_and_does_not_train():
    model = plain_network(VANConfig(**SMALL))
    fast, x = optimize_for_inference(model), pictures(1, 3, 64, 64)
    assert type(fast) is InferenceVAN
    before = fast(x).numpy()
    for parameter in model.parameters():
        parameter.assign(parameter * 2)
    np.testing.assert_array_equal(fast(x).numpy(), before)
    with pytest.raises(RuntimeError, match="inference alone"):
        fast.train()


def test_a_training_model_is_taken_as_in_eval_mode():
    model = plain_network(VANConfig(**SMALL), drop_rate=0.5, drop_path_rate=0.5)
    model.train()
    fast, x = fused(model), pictures(2, 3, 64, 64)
    assert model.is_training()
    found = fast(x).numpy()
    model.eval()
    assert error(found, model(x).numpy()) <= BAR


@pytest.mark.parametrize(("x", "says"), [((1, 4, 64, 64), "takes"), ((3, 64, 64), "takes"), ((0, 3, 64, 64), "takes")])
def test_wrong_inputs(x, says):
    with pytest.raises(ValueError, match=says):
        fused(plain_network(VANConfig(**SMALL)))(jt.zeros(x))


def test_what_it_cannot_take():
    with pytest.raises(TypeError, match="takes a VAN"):
        optimize_for_inference(jt.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="float8"):
        optimize_for_inference(plain_network(VANConfig(**SMALL)), dtype="float8")


class Mean(jt.nn.Module):
    def __init__(self, dim):
        pass

    def execute(self, x):
        return x * x.mean()


def test_a_foreign_attention_stays_plain_and_says_so():
    from jvan.models import VAN

    model = VAN(SMALL["embed_dims"], SMALL["depths"], num_classes=3, lka=Mean)
    model.train()
    with pytest.warns(UserWarning, match="Mean"):
        plain = optimize_for_inference(model)
    assert model.is_training() and not plain.is_training()
    x = pictures(1, 3, 64, 64)
    model.eval()
    np.testing.assert_array_equal(plain(x).numpy(), model(x).numpy())


def test_without_kernels_it_stays_plain_and_says_so(monkeypatch):
    monkeypatch.setenv(_jit.SWITCH, "0")
    model = plain_network(VANConfig(**SMALL))
    with pytest.warns(UserWarning, match=_jit.SWITCH):
        assert type(optimize_for_inference(model)) is type(model)


def test_a_processor_without_units_for_bfloat16_is_said_once(monkeypatch):
    model = plain_network(VANConfig(**SMALL))
    _jit.warn_once.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(_jit, "arithmetic", lambda dtype: "bfloat16 products by a unit, float32 sums")
        optimize_for_inference(model, dtype="bfloat16")
    monkeypatch.setattr(_jit, "vector_bytes", 32)
    with pytest.warns(UserWarning, match="bfloat16 saves no time on this machine: values rounded .* no AVX512-BF16"):
        optimize_for_inference(model, dtype="bfloat16")
    optimize_for_inference(model, dtype="bfloat16")
    optimize_for_inference(model)


def test_few_plans_are_kept():
    fast = fused(plain_network(VANConfig(**SMALL)))
    for side in range(32, 32 + optimize.PLANS + 5):
        fast(pictures(1, 3, side, 32)).sync()
    assert len(fast._plans) == optimize.PLANS
