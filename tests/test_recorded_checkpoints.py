"""Checkpoint files that other code bases wrote, in jvan: the numbers of the code that wrote them come out."""

from __future__ import annotations

import jittor as jt
import numpy as np
import pytest

import jvan
from jvan.checkpoints.state import load_state
from tests.models.recorded import GOLDEN, error, picture, recording, to_input
from weights_convert.random_state import TINY, official_shapes, random_state

BAR = 1e-4  # of the original's largest value
FILES = {  # file: the recording of its numbers
    "official_tiny.pth.tar": "official_tiny",
    "official_tiny_legacy.pth.tar": "official_tiny",
    "official_tiny_module.pth.tar": "official_tiny",
    "official_tiny_ema.pth.tar": "official_tiny",
    "mmpretrain_tiny.pth": "official_tiny",
    "mmengine_tiny.pth": "official_tiny",
    "mmseg_tiny.pth": "mmseg_tiny",
    "hf_tiny": "hf_tiny",
    "hf_tiny_sharded": "hf_tiny",
    "hf_tiny_bin": "hf_tiny",
    "hf_tiny_bin/pytorch_model.bin": "hf_tiny",
}


@pytest.mark.filterwarnings("ignore:.*are not taken:UserWarning")  # two of the files hold more than the network
@pytest.mark.parametrize("name", FILES)
def test_numbers_of_the_code_that_wrote_the_file(name):
    golden = recording(FILES[name])
    inputs = to_input(golden["pictures"])
    with jt.no_grad():
        maps = jvan.create_model(weights=GOLDEN / name, features_only=True).eval()(inputs)
        assert len(maps) == 4
        for stage, ours in enumerate(maps, start=1):
            assert tuple(ours.shape) == golden[f"stage{stage}"].shape
            assert error(ours.numpy(), golden[f"stage{stage}"]) < BAR, f"stage{stage}"
        if "logits" in golden:
            logits = jvan.create_model(weights=GOLDEN / name).eval()(inputs)
            assert error(logits.numpy(), golden["logits"]) < BAR


@pytest.mark.parametrize("ema, seed", [(False, 0), (True, 1)])
def test_averaged_weights_only_when_asked(ema, seed):
    tensors = load_state(GOLDEN / "official_tiny_ema.pth.tar", ema=ema).tensors
    for name, expected in random_state(official_shapes(**TINY), seed).items():
        np.testing.assert_array_equal(tensors[name], expected, name)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_files_become_float32_exactly(kind):
    tensors = load_state(GOLDEN / f"official_tiny_{kind}.pth").tensors
    golden = recording("official_tiny")
    statistics = {k[len("statistics/") :]: v for k, v in golden.items() if k.startswith("statistics/")}
    expected = {**random_state(official_shapes(**TINY)), **statistics}
    assert set(tensors) == set(expected)
    for name, value in expected.items():
        rounded = value.astype(np.float16).astype(np.float32) if kind == "float16" else to_bfloat16(value)
        assert tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensors[name], rounded, name)


def to_bfloat16(value: np.ndarray) -> np.ndarray:
    """Rounded to the nearest of the float32 numbers whose lower 16 bits are zero, ties to even."""
    bits = value.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


@pytest.mark.parametrize("name", ["oddities.pth", "oddities_legacy.pth"])
def test_unusual_tensors(name):
    expected, found = recording("oddities"), jvan.read_checkpoint(GOLDEN / name)
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        assert found[key].shape == value.shape, key
        np.testing.assert_array_equal(found[key], value, key)


def test_half_precision_weights_give_the_recorded_logits():
    golden = recording("van_b0_untrained")
    model = jvan.create_model(weights=GOLDEN / "van_b0_untrained.safetensors").eval()
    assert "untrained" in model.metadata.note
    with jt.no_grad():
        for size in ("224x224", "193x257"):
            assert error(model(picture(size)).numpy()[0], golden[f"{size}/logits"]) < BAR
