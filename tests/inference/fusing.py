"""Random networks as they are fused, and the same in float64."""

import jittor as jt
import numpy as np

from jvan.inference.fused.cpu import InferenceVAN
from jvan.models import build
from jvan.models.loading import assign
from jvan.variants import VANConfig
from tests import float64
from tests.inference.random_network import random_tensors
from tests.models.recorded import error
from weights_convert.random_state import stream

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
