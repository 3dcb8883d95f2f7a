"""The engines on a GPU: every one in each precision that it has, and what the device gives at most."""

from __future__ import annotations

from .engines import MODES, WORKERS, Engine, jittor, plain_jittor, torch

TRAINING = ("float32", "bfloat16")  # float16 needs a loss scale that adapts, which is the trainer's and not a step's
SUFFIX = {"float32": "", "float16": "-fp16", "bfloat16": "-bf16"}
# name: channels-last, torch.compile, CUDA graph, 16 bits by converting the weights (in inference; autocast otherwise)
_TORCH = {
    "torch": (False, False, False, True),
    "torch-channels-last": (True, False, False, False),
    "torch-compile": (True, True, False, True),
    "torch-graphs": (True, False, True, True),
    "torch-compile-graphs": (True, True, True, True),
}
NAMES = (*_TORCH, "jittor")


def chosen_on_cuda(mode: str, dtypes, against) -> list[Engine]:
    """The engines of a case, jvan's first, then peers by precision; `against` None takes every peer."""
    dtypes = [dtype for dtype in dtypes if mode == "infer" or dtype in TRAINING]
    ours = [_jvan(dtype) for dtype in dtypes]
    names = NAMES if against is None else against
    peers = [_peer(name, dtype, mode) for dtype in dtypes for name in names]
    return [*ours, *(engine for engine in peers if engine is not None)]


def ceilings_on_cuda(dtypes) -> list[Engine]:
    """cuBLAS's product of 8192×8192 matrices in each precision, and a copy of 1 GiB."""
    script = WORKERS / "cuda_ceiling_worker.py"
    products = [
        Engine(f"product{SUFFIX[dtype]}", script, dtype, options={"what": "product", "size": 8192}) for dtype in dtypes
    ]
    return [*products, Engine("copy", script, options={"what": "copy", "size": 1 << 30})]


def _jvan(dtype: str) -> Engine:
    return jittor(f"jvan{SUFFIX[dtype]}", dtype=dtype, modes=MODES, options={"optimize": True}, peer="jvan")


def _peer(name: str, dtype: str, mode: str) -> Engine | None:
    """None where the engine has not this precision: the plain Jittor graph is float32."""
    if name == "jittor":
        return plain_jittor() if dtype == "float32" else None
    channels_last, compiled, graph, whole = _TORCH[name]
    options = {"graph": graph, "whole": whole and mode == "infer"}
    return torch(f"{name}{SUFFIX[dtype]}", channels_last, compiled, dtype=dtype, options=options, peer=name)
