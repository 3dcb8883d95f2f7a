"""The fused network against numpy in float64, the plain one and the recordings of the original PyTorch code."""

import re

import numpy as np
import pytest

from jvan import variants
from jvan.inference.fused import plan
from jvan.inference.fused.cpu import InferenceVAN
from jvan.models.van import VANFeatures
from jvan.ops import _jit, gates
from jvan.variants import VANConfig, variant_config
from tests.inference.fusing import BAR, WIDE, compare, exact, fused, pictures, plain_network
from tests.models.recorded import error, network, picture, recording, section
from weights_convert.random_state import SMALL, positions


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


def test_a_gate_is_what_the_kernels_make_of_its_number():
    text = (_jit.KERNELS / "product.h").read_text(encoding="utf-8")
    after = re.search(r"enum After {([\w, ]+)}", text)[1].strip().split(", ")
    names = {"multiply": "TIMES", "add": "PLUS", "none": "NOTHING", "sigmoid": "TIMES_SIGMOID"}
    assert {name: after[gate.after] for name, gate in gates.GATES.items()} == names
    assert set(gates.GATES) == set(variants.GATES)
