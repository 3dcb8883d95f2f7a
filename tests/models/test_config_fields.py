"""Every field of a configuration reaches the files, the folded network and the count of operations."""

from dataclasses import fields, replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from jvan import create_model
from jvan.benchmarking.flops import multiply_adds
from jvan.variants import VANConfig
from tests import float64
from tests.inference.fusing import compare, pictures, plain_network

CONFIG = VANConfig(embed_dims=(4, 8, 8, 12), depths=(1, 1, 1, 1), mlp_ratios=(3, 2, 2, 2), num_classes=5)
OTHER = {
    "embed_dims": (8, 4, 12, 8), "depths": (1, 2, 1, 1), "mlp_ratios": (2, 3, 1, 2), "num_classes": 7, "in_chans": 2,
    "kernel_size": 14, "dilation": 2, "stem_stride": 2, "norm_eps": 1e-2, "lka_parts": ("dw", "pw"), "gate": "add",
}  # fmt: skip
HEIGHT, WIDTH = 41, 37


def test_no_field_is_left_out():
    """But for `attention`, which test_own_unit.py moves."""
    assert {*OTHER, "attention"} == {field.name for field in fields(VANConfig)}


def counted(monkeypatch, config, x, tensors):
    """Multiply-adds of a forward pass, each convolution's counted where it is computed."""
    counts = []
    for name in ("conv", "depthwise", "pointwise"):
        monkeypatch.setattr(float64, name, _counting(getattr(float64, name), counts))
    float64.network(x, tensors, config)
    return sum(counts)


def _counting(layer, counts):
    def counting(x, weight, *others):
        y = layer(x, weight, *others)
        counts.append(y.size * weight[0].size)
        return y

    return counting


@pytest.mark.parametrize("name", OTHER)
def test_a_field_is_honoured(monkeypatch, tmp_path, name):
    config = replace(CONFIG, **{name: OTHER[name]})
    model = plain_network(config)
    tensors = {key: value.numpy() for key, value in model.state_dict().items()}
    metadata = create_model("van_b0", **vars(config)).metadata
    save_file(tensors, tmp_path / "weights.safetensors", {"jvan": metadata.to_json()})
    again = create_model(weights=tmp_path / "weights.safetensors").eval()
    x = pictures(1, config.in_chans, HEIGHT, WIDTH)
    assert again.metadata.config == config and np.array_equal(again(x).numpy(), model(x).numpy())
    compare(config, x)
    assert multiply_adds(config, HEIGHT, WIDTH) == counted(monkeypatch, config, x.numpy(), tensors)
