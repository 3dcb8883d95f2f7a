"""Runs the CUDA operators on jt.Var, and says whether they may: only where they were seen to give the right numbers."""

from __future__ import annotations

import contextlib
import functools
import os

import jittor as jt
import numpy as np

from ..._say import warn
from .. import _jit
from .arrays import ARRAY_TYPES, exact, stored
from .backend import backend, set_backend
from .operators import OPERATORS, types_of
from .verify import CHECKS, TOLERANCE


def run(name, inputs, shapes, parameter=None, **numbers):
    """Run an operator (operators.OPERATORS) -> list of jt.Var of these shapes.

    parameter: the parameters' dtype, where no input is one.
    """
    operator = OPERATORS[name]
    found = {letter: str(v.dtype) for letter, v in zip(operator.inputs, inputs)}
    types = found.get("T", "float32"), parameter or found.get("W", "float32")
    return backend().run(name, types, inputs, shapes, types_of(operator.outputs, *types), numbers)


def can_run(families, x, *parameters) -> bool:
    """Whether the kernels of these families can take maps like x and these parameters.

    Jittor computes on a GPU, the parameters are of one dtype, x's or float32, and the kernels passed their check there,
    which runs once a process for each family and pair of dtypes. A family that fails it is never used; one line says so.
    """
    if not on_gpu() or os.environ.get(_jit.SWITCH) == "0":
        return False
    types = str(x.dtype), str(parameters[0].dtype) if parameters else "float32"
    if types[0] not in TOLERANCE or types[1] not in (types[0], "float32"):
        return False
    if any(str(v.dtype) != types[1] for v in parameters):
        return False
    return not any(_faults(families, types))


def why_not(families, dtype: str) -> str | None:
    """Why these families cannot compute a network whose maps are of this dtype and whose parameters are float32; None where they can."""
    if os.environ.get(_jit.SWITCH) == "0":
        return f"the CUDA kernels are switched off: {_jit.SWITCH} is 0"
    return precision_fault(dtype) or next(filter(None, _faults(families, (dtype, "float32"))), None)


def precision_fault(dtype: str) -> str | None:
    """What of Jittor's settings spoils products of this dtype.

    With use_tensorcore, cublas_matmul_op.cc asks for CUBLAS_COMPUTE_16F: sums of float16, and nothing that cuBLAS has for bfloat16.
    """
    if dtype == "float32" or not jt.flags.use_tensorcore:
        return None
    return f"jt.flags.use_tensorcore is {jt.flags.use_tensorcore}, with which Jittor's {dtype} products are not summed in float32; set it to 0"


def on_gpu() -> bool:
    """Whether Jittor computes on a GPU, or on a backend that stands in for it."""
    return backend().is_used()


def _faults(families, types):
    if backend().compiles:
        compile_all(tuple(families), types)
    return (fault(family, types) for family in families)


@functools.cache
def fault(family: str, types: tuple[str, str]) -> str | None:
    """What is wrong with a family's results on this device; None where nothing is."""
    try:
        errors = CHECKS[family](run_arrays, types)
    except RuntimeError as error:
        message = str(error).strip().splitlines() or ["it does not run"]
        wrong = message[-1][:200]
    else:
        what, worst = max(errors.items(), key=lambda item: item[1])
        if worst <= DEVICE_MARGIN:
            return None
        wrong = f"{what} errs {worst:.3g} times as much as rounding does"
    reason = f"the CUDA kernels {family} ({', '.join(types)}) are off: {wrong}"
    warn(f"{reason}; plain Jittor operators run instead, slower")
    return reason


@functools.cache
def compile_all(families: tuple[str, ...], types: tuple[str, str]) -> None:
    """Have Jittor compile what the families' checks will run: at once, which it does on all cores, not one after another."""
    calls = []

    def record(name, types, arrays, shapes, numbers):
        calls.append((name, arrays, shapes, numbers))
        dtypes = types_of(OPERATORS[name].outputs, *types)
        return [np.zeros(shape, ARRAY_TYPES[dtype]) for shape, dtype in zip(shapes, dtypes)]

    for family in families:
        CHECKS[family](record, types)
    outputs = []
    for name, arrays, shapes, numbers in calls:
        dtypes = types_of(OPERATORS[name].inputs, *types)
        inputs = [to_variable(array, dtype) for array, dtype in zip(arrays, dtypes)]
        outputs += run(name, inputs, shapes, parameter=types[1], **numbers)
    with contextlib.suppress(RuntimeError):  # the families' own checks say which one it is
        jt.sync(outputs)


# Jittor compiles with --use_fast_math, whose divisions, exponentials and square roots are a few units in the last place off.
DEVICE_MARGIN = 8.0


def run_arrays(name, types, arrays, shapes, numbers):
    """What `verify` needs: an operator on numpy arrays (arrays.stored), on the device."""
    dtypes = types_of(OPERATORS[name].inputs, *types)
    inputs = [to_variable(array, dtype) for array, dtype in zip(arrays, dtypes)]
    return [to_array(v) for v in run(name, inputs, shapes, parameter=types[1], **numbers)]


def to_variable(array, dtype):
    """A jt.Var of what `arrays.stored` made."""
    if dtype != "bfloat16":
        return jt.array(array)
    # Flat: Jittor compiles a cast anew for every number of axes.
    return jt.array(exact(array).astype("float32").ravel()).bfloat16().reshape(array.shape).stop_grad()


def to_array(variable):
    """What `arrays.stored` makes of a jt.Var's values."""
    return stored(variable.numpy(), str(variable.dtype))  # of bfloat16, Jittor gives numpy float32


@contextlib.contextmanager
def use_backend(chosen):
    """Inside, `chosen` (an object like backend.GPU) runs the CUDA operators, and what was checked of the one before is forgotten.

    For tests and tools: `use_backend(Emulated(emulator))` has the host compute what a GPU would.
    """
    with set_backend(chosen):
        fault.cache_clear()
        try:
            yield
        finally:
            fault.cache_clear()


def rounded(x, dtype):
    """x as `dtype`, to the nearest."""
    return x if x.dtype == dtype else backend().cast(x, dtype)
