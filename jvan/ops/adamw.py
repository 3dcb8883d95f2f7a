"""One step of AdamW for one parameter (Loshchilov & Hutter, arXiv 1711.05101), with PyTorch's arithmetic."""

from __future__ import annotations

import functools

import jittor as jt
import numpy as np

from ._jit import can_run, members, run_named
from .cuda import families as cuda


def adamw(value, gradient, mean, square, rates):
    """One step: value, gradient and its moments `mean` and `square`, all of one shape -> the new value, mean and square.

    rates: eight numbers, 1 - learning rate · weight decay, β₁, 1 - β₁, β₂, 1 - β₂, 1 / √(1 - β₂ᵗ), ε, learning rate / (1 - β₁ᵗ)
    """
    if value.dtype == "float32" and cuda.can("adamw", value, gradient, mean, square):
        return cuda.adamw(value, gradient, mean, square, rates)
    chosen = adamw_fused if can_run(value, gradient, mean, square) else adamw_ref
    return chosen(value, gradient, mean, square, rates)


def adamw_ref(value, gradient, mean, square, rates):
    """By Jittor's own operators, a dozen passes over memory."""
    decay, beta1, rest1, beta2, rest2, root, eps, rate = rates
    mean = mean * beta1 + gradient * rest1
    square = square * beta2 + gradient * gradient * rest2
    return value * decay - mean / (square.sqrt() * root + eps) * rate, mean, square


def adamw_fused(value, gradient, mean, square, rates):
    """By `kernels/adamw.h`: float32 on the CPU, in one pass over memory."""
    inputs = {"value": value, "gradient": gradient, "mean": mean, "square": square, "numbers": _numbers(tuple(rates))}
    outputs = dict.fromkeys(("new_value", "new_mean", "new_square"), value.shape)
    source = f"jvan::adamw({{value}}->num, {members(*inputs, *outputs)});"
    with jt.no_grad():  # else the new value would keep the maps behind its gradient, of every step so far
        return run_named("adamw.h", source, inputs, outputs)


@functools.lru_cache(maxsize=64)
def _numbers(rates: tuple[float, ...]):
    """As a variable; of the hundreds of parameters of a step most have the same."""
    with np.errstate(over="ignore"):  # of a rate beyond float32, which shows in the next loss
        return jt.array(np.array(rates, np.float32)).stop_grad()
