"""jvan's own kernels on the fake runtime, for drive.py: compiled by Jittor's call of nvcc, loaded and launched."""

from __future__ import annotations

import jittor as jt
import numpy as np

from jvan.inference.fused.gpu import GPUInferenceVAN
from jvan.models.blocks import Block
from jvan.models.factory import build
from jvan.ops.cuda import families, folded, functions, launch
from tools.gpu_check import calls as gpu_calls
from tools.gpu_check import timed as gpu_timed
from tools.gpu_check.task import TINY

TYPES = (("bfloat16", "float32"), ("float16", "float16"))  # besides float32


def kernels(launched) -> dict:
    """{case: {operator: launches}}, where `launched()` counts them. The kernels' checks, which must fail here, are left out."""
    launch.fault = lambda family, types: None
    cases = {"block": block, "layer_norm": layer_norm, "patches": patches, "adamw": adamw, "copy": copy}
    cases.update({"-".join(types): lambda types=types: bias(*types) for types in TYPES})
    cases.update({"inference in float16": inference, "block in bfloat16": lambda: block("bfloat16")})
    cases["timed"] = timed
    seen = {}
    for case, call in cases.items():
        names = []

        def noted(name, *arguments, names=names, **numbers):
            names.append(name)
            return launch.run(name, *arguments, **numbers)

        functions.run = folded.run = noted
        jt.sync_all(True)
        before = launched()
        jt.sync([value for value in call() if value is not None])
        jt.sync_all(True)
        seen[case] = {"operators": sorted(set(names)), "launches": launched() - before}
    functions.run = folded.run = launch.run
    return seen


def driver_copies() -> bool:
    """Whether the driver's copy does so: the fake runtime's works on the host's memory."""
    x = drawn(1000)
    return np.array_equal(launch.run("driver_copy", [x], [(1000,)])[0].numpy(), x.numpy())


def drawn(*shape):
    return jt.array(np.random.RandomState(0).standard_normal(shape).astype(np.float32))


def with_gradients(y, *inputs) -> list:
    return [y, *jt.grad((y * y).sum(), list(inputs))]


def block(maps="float32") -> list:
    """A block of VAN-B0's first stage in training, forward and backward."""
    module, x = Block(32, 8), drawn(2, 7, 9, 32).cast(maps)
    module.train()
    parameters = [p for name, p in module.named_parameters() if ".running_" not in name]
    return with_gradients(module(x), x, *parameters)


def inference() -> list:
    """A whole small network, folded, its maps and products' weights in 16 bits."""
    with jt.flag_scope(use_cuda=0):  # whose weights are numbers that can be folded
        model = build(TINY)
        model.eval()
        jt.sync_all(True)
    return [GPUInferenceVAN(model, "float16")(drawn(1, 3, 32, 32))]


def layer_norm() -> list:
    x, weight, bias = drawn(2, 3, 5, 32), drawn(32), drawn(32)
    return with_gradients(families.layer_norm(x, weight, bias, 1e-6), x, weight, bias)


def patches() -> list:
    x, weight, bias = drawn(2, 9, 11, 3), drawn(32, 3, 7, 7), drawn(32)
    return with_gradients(families.conv(x, weight, bias, 4, 3), x, weight, bias)


def adamw() -> list:
    shape = (5, 3, 7, 7)
    return families.adamw(drawn(*shape), drawn(*shape), drawn(*shape), drawn(*shape) ** 2, [0.5] * 8)


def copy() -> list:
    return functions.run("copy", [drawn(1000)], [(1000,)])


def timed() -> list:
    """A copy between CUDA events: three maps of four numbers take turns, five calls are timed in each round."""
    return [gpu_timed.begin(gpu_calls.call("copy", (1, 1, 1, 4), "float32", turns=3), 3, 5)]


def bias(maps: str, parameters: str) -> list:
    """A light operator: what of 16 bits is Jittor's, its types, is the same in all."""
    return [functions.add_bias(drawn(63, 32).cast(maps), drawn(32).cast(parameters), gelu=True)]
