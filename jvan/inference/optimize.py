"""`optimize_for_inference`: the fused network of the device at hand, or the plain one with a warning that says why."""

from __future__ import annotations

import copy

from .._say import warn
from ..device import DTYPES
from ..errors import PrecisionError
from ..models.van import VAN
from ..ops import _jit
from ..ops.cuda.launch import on_gpu
from .fused.cpu import InferenceVAN
from .fused.fusable import NotFusable
from .fused.gpu import GPUInferenceVAN


def optimize_for_inference(model: VAN, dtype: str = "float32"):
    """A copy of `model`, a VAN or VANFeatures, for inference alone: same call, same outputs, no gradients.

    BatchNorms (on their running statistics), layer scales and the attention's inner shortcut are folded
    into the neighbouring products. Outputs differ by rounding: about 1e-5 of the largest; with `dtype`
    "bfloat16", whose products take rounded values and sum them in float32, about 1e-2, 2e-2 in deep networks.
    On a GPU the maps are of that type too, and there is "float16", about 2e-3. `arithmetic` of the result
    says how it computes. It runs on the device that Jittor was set to when it was made. Later changes of
    `model` do not reach the copy. Where nothing can stand in for the model, a copy of the plain network is
    returned with a warning that says why; where the processor has no unit for bfloat16, another says so, once.
    TypeError for another kind of model; JvanError, a ValueError, for a dtype that the device does not have.
    """
    if not isinstance(model, VAN):
        raise TypeError(f"optimize_for_inference takes a VAN, not a {type(model).__name__}")
    check_dtype(dtype)
    reason = None if on_gpu() else _jit.why_not()
    if reason is None:
        try:
            fast = (GPUInferenceVAN if on_gpu() else InferenceVAN)(model, dtype)
        except NotFusable as fault:
            reason = str(fault)
        else:
            if not fast.native:
                _jit.warn_once(f"bfloat16 saves no time on this machine: {fast.arithmetic}")
            return fast
    warn(f"the network stays as it is, since {reason}: slower, with the same outputs")
    plain = copy.deepcopy(model)
    plain.eval()
    return plain


def check_dtype(dtype: str) -> None:
    """PrecisionError for what is no dtype of inference, or none on the device that Jittor is set to."""
    if dtype not in DTYPES:
        raise PrecisionError(f"dtype is {dtype!r}; choose one of {', '.join(DTYPES)}")
    if dtype == "float16" and not on_gpu():
        raise PrecisionError("dtype is float16, which needs a GPU; on the CPU choose bfloat16, or float32")
