"""16-bit maps for plain Jittor operators: computed in float32, the result rounded once."""

from __future__ import annotations

import functools

import jittor as jt

HALVES = ("float16", "bfloat16")


def in_float32(ref):
    """`ref(x, …)`, or its first result, for x of 16 bits and parameters of any type; others reach `ref` unchanged.

    Jittor 1.3.11 multiplies no matrices of different widths (cublas_matmul_op.cc asserts equal ones), takes
    `float16 · bfloat16` for bfloat16, and makes the gradients of a float16 product broadcasts of rows · C · O elements.
    """

    @functools.wraps(ref)
    def rounded(x, *operands, **options):
        if str(x.dtype) not in HALVES:
            return ref(x, *operands, **options)
        result = ref(x.float32(), *(_widened(each) for each in operands), **options)
        if isinstance(result, tuple):
            return (result[0].cast(x.dtype), *result[1:])
        return result.cast(x.dtype)

    return rounded


def _widened(operand):
    if isinstance(operand, jt.Var):
        return operand.float32() if str(operand.dtype) in HALVES else operand
    if isinstance(operand, tuple):
        values = [_widened(each) for each in operand]
        return type(operand)(*values) if hasattr(operand, "_fields") else tuple(values)
    return operand
