"""The fused network in bfloat16 against numpy in float64, emulated tiles and the recordings of the original PyTorch code."""

import numpy as np
import pytest

from jvan.inference.fused.cpu import InferenceVAN
from jvan.inference.optimize import optimize_for_inference
from jvan.ops import _jit
from jvan.variants import VANConfig, variant_config
from tests.inference.fusing import WIDE, exact, pictures, plain_network
from tests.models.recorded import error, network, picture, recording, section
from weights_convert.random_state import SMALL


@pytest.mark.parametrize("width", [None, 32], ids=["processor's", "portable"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_whole_networks(monkeypatch, width, threads):
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
def test_in_emulated_tiles(monkeypatch, shape, threads):
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
def test_constructor_arguments(changes):
    config = VANConfig(**{**SMALL, **changes})
    model, x = plain_network(config), pictures(3, config.in_chans, 65, 48)
    assert 1e-5 < error(InferenceVAN(model, "bfloat16")(x).numpy(), exact(model, config, x)[0]) <= 3e-2


# README.md names these bars. Rounding adds up over the blocks: B0 and B1 have 13 and 10, B2 and B3 21 and 38.
@pytest.mark.parametrize("arch, bar", [("van_b0", 1e-2), ("van_b1", 1e-2), ("van_b2", 2.5e-2), ("van_b3", 2.5e-2)])
def test_recorded_logits(arch, bar):
    golden = recording(arch)
    fast = InferenceVAN(network(variant_config(arch), section(golden, "statistics/")), "bfloat16")
    for size in ("224x224", "193x257"):
        assert error(fast(picture(size)).numpy(), golden[f"{size}/logits"]) <= bar


def test_a_processor_without_units_for_bfloat16_is_said_once(monkeypatch):
    model = plain_network(VANConfig(**SMALL))
    _jit.warn_once.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(_jit, "arithmetic", lambda dtype: _jit.Arithmetic("values rounded by a unit of its own"))
        optimize_for_inference(model, dtype="bfloat16")
    monkeypatch.setattr(_jit, "vector_bytes", 32)
    with pytest.warns(UserWarning, match="bfloat16 saves no time on this machine: values rounded .* no AVX512-BF16"):
        optimize_for_inference(model, dtype="bfloat16")
    optimize_for_inference(model, dtype="bfloat16")
    optimize_for_inference(model)
