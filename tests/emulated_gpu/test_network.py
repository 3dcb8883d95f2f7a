"""A whole small network as a GPU computes it, the kernels run on the host, in each type of maps: against the CPU's in float32."""

import functools

import jittor as jt
import numpy as np
import pytest

from jvan.engine.devices import check_device
from jvan.errors import JvanError, TrainingError
from jvan.inference.fused.gpu import GPUInferenceVAN
from jvan.inference.optimize import optimize_for_inference
from jvan.models.factory import build, create_model
from jvan.models.loading import assign
from jvan.ops import _jit
from jvan.ops.cuda import launch as cuda
from jvan.ops.cuda.backend import GPU, set_backend
from jvan.variants import VANConfig
from tests.inference.random_network import random_tensors
from tools.cuda_emulator.backend import Emulated

SMALL = {"embed_dims": (8, 16, 24, 32), "depths": (1, 1, 2, 1), "num_classes": 10}
SCALE = {"float32": 1.0, "float16": 1024.0, "bfloat16": 1.0}  # of the loss
at_all_dtypes = pytest.mark.parametrize("dtype", SCALE)


@pytest.fixture(scope="module")
def emulated(emulator):
    """The emulator as the GPU; the kernels are checked once for all tests."""
    with cuda.use_backend(Emulated(emulator)):
        yield


@pytest.fixture
def device(emulated, monkeypatch):
    """The same; no C++ kernel may run."""
    monkeypatch.setattr(_jit, "run_kernel", None)


@pytest.fixture
def on_cpu():
    """Calls a function without the emulator."""

    def call(function):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_jit, "run_kernel", RUN_KERNEL)
            with set_backend(GPU()):
                return function()

    return call


RUN_KERNEL = _jit.run_kernel


def network(**changes):
    model = build(VANConfig(**{**SMALL, **changes}))
    assign(model, random_tensors({name: tuple(value.shape) for name, value in model.state_dict().items()}))
    return model


def pictures(count=2, side=64):
    return jt.array(np.random.RandomState(0).standard_normal((count, 3, side, side)).astype(np.float32))


def error(ours, theirs):
    assert ours.shape == theirs.shape and np.isfinite(ours).all()
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def training_step(model, dtype, scale=1.0):
    """(logits, {parameter: gradient}, {statistic: value}, the stages' types)"""
    model.train()
    types = []
    stages = model.stages
    model.stages = lambda x: (types.append(str(each.dtype)) or each for each in stages(x))
    logits = model(cuda.rounded(pictures(), dtype))
    del model.stages
    assert logits.dtype == "float32"
    loss = jt.nn.cross_entropy_loss(logits, jt.array([1, 2])) * scale
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = dict(zip(learned, jt.grad(loss, list(learned.values()))))
    assert {str(g.dtype) for g in found.values()} == {"float32"}
    running = {name: value.numpy() for name, value in model.state_dict().items() if ".running_" in name}
    return logits.numpy(), {name: g.numpy() / scale for name, g in found.items()}, running, types


@functools.cache
def step_on_cpu():
    return training_step(network(), "float32")


# Of the norm of each gradient; a bfloat16 is eight times as coarse as a float16.
TOLERANCE = {"float32": 1e-4, "float16": 1.5e-2, "bfloat16": 1.2e-1}


@at_all_dtypes
def test_training(device, on_cpu, dtype):
    expected, gradients, statistics, _ = on_cpu(step_on_cpu)
    ours, found, running, types = training_step(network(), dtype, SCALE[dtype])
    assert types == [dtype] * 4
    assert error(ours, expected) <= {"float32": 1e-5, "float16": 5e-3, "bfloat16": 3e-2}[dtype]
    for name, value in gradients.items():
        if not name.endswith("proj.bias"):  # BatchNorm follows: the true gradient is zero
            off = np.linalg.norm(found[name] - value) / np.linalg.norm(value)
            assert off <= TOLERANCE[dtype], (name, off)
    for name, value in statistics.items():
        assert error(running[name], value) <= TOLERANCE[dtype] / 2, name


BAR = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 3e-2}


@at_all_dtypes
def test_inference(device, on_cpu, dtype):
    """Logits, all four maps, and a call's two halves, of pictures whose sides no stride divides."""
    model, x = network(), jt.array(pictures(3, 72).numpy()[:, :, :, :69])
    model.eval()
    expected = on_cpu(lambda: (model(x).numpy(), [stage.permute(0, 3, 1, 2).numpy() for stage in model.stages(x)]))
    fast = optimize_for_inference(model, dtype)
    assert type(fast) is GPUInferenceVAN and dtype in fast.arithmetic
    logits, maps = fast(x), fast._run(x, wanted=(0, 1, 2, 3))[1]
    assert {str(v.dtype) for v in (logits, *maps)} == {"float32"}
    assert error(logits.numpy(), expected[0]) <= BAR[dtype]
    for ours, theirs in zip(maps, expected[1]):
        assert error(ours.numpy(), theirs) <= BAR[dtype]
    head = fast.forward_head(fast.forward_features(x))
    np.testing.assert_allclose(head.numpy(), logits.numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="through a network for inference alone"):
        jt.grad(logits.sum(), [x])


CHANGES = [
    {"lka_parts": ("dw_d", "pw"), "gate": "add"},
    {"lka_parts": ("dw", "dw_d"), "gate": "sigmoid"},
    {"lka_parts": ("pw",), "gate": "none"},
    {"stem_stride": 2, "num_classes": 0, "kernel_size": 11, "dilation": 2, "norm_eps": 1e-2},
    {"kernel_size": 45, "dilation": 1},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_inference_of_other_networks(device, on_cpu, changes):
    model, x = network(**changes), pictures(1, 40)
    model.eval()
    expected = on_cpu(lambda: model(x).numpy())
    assert error(optimize_for_inference(model)(x).numpy(), expected) <= BAR["float32"]


def test_inference_of_features(device, on_cpu):
    model, x = (
        create_model("van_b0", features_only=True, out_indices=(2, 0), embed_dims=(8, 8, 8, 8), depths=(1,) * 4),
        pictures(1, 40),
    )
    model.eval()
    expected = on_cpu(lambda: [each.numpy() for each in model(x)])
    for ours, theirs in zip(optimize_for_inference(model, "bfloat16")(x), expected):
        assert error(ours.numpy(), theirs) <= BAR["bfloat16"]


def test_inference_where_the_kernels_cannot(device, monkeypatch):
    """The plain network, and one line that says why."""
    monkeypatch.setenv(_jit.SWITCH, "0")
    with pytest.warns(UserWarning, match=f"CUDA kernels are switched off: {_jit.SWITCH} is 0"):
        assert type(optimize_for_inference(network(), "float16")) is not GPUInferenceVAN


def test_sums_of_sixteen_bits_are_refused(device, monkeypatch):
    monkeypatch.setattr(jt.flags, "use_tensorcore", 1)
    for dtype in ("float16", "bfloat16"):
        with pytest.raises(TrainingError, match=r"use_tensorcore is 1, .* set it to 0"):
            check_device(dtype, False, 1)
    check_device("float32", False, 1)
    with pytest.warns(UserWarning, match="use_tensorcore is 1"):
        optimize_for_inference(network(), "bfloat16")


def test_statistics_over_several_gpus_are_refused(device, on_cpu):
    with pytest.raises(TrainingError, match="--sync-bn is for processes on CPUs"):
        check_device("float32", True, 2)
    check_device("float32", False, 2)
    on_cpu(lambda: check_device("float32", True, 2))


def test_precisions_of_each_device(device, on_cpu):
    for dtype in SCALE:
        check_device(dtype, False, 1)
    with pytest.raises(JvanError, match="float16, which needs a GPU; on the CPU choose bfloat16"):
        on_cpu(lambda: optimize_for_inference(network(), "float16"))


def test_checkpointing_gives_the_same_gradients(device):
    """In bfloat16, drop path included; the maps between are made again, to the same bits."""
    results = []
    for enable in (False, True):
        model = network()
        model.set_grad_checkpointing(enable)
        results.append(training_step(model, "bfloat16")[:3])
    for plain, again in zip(*results):
        for name in plain if isinstance(plain, dict) else ():
            np.testing.assert_array_equal(plain[name], again[name], name)
