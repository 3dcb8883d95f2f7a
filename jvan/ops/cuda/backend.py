"""What runs the CUDA operators: the GPU that Jittor computes on, or what a test or a tool sets in its place."""

from __future__ import annotations

import contextlib

import jittor as jt

from .. import _jit
from .operators import OPERATORS


class GPU:
    """The device's own backend. Another one has the same attributes and methods."""

    has_clock = compiles = True  # CUDA's events measure kernels; kernels are compiled before they run

    def is_used(self) -> bool:
        """Whether Jittor computes on it now."""
        return bool(jt.flags.use_cuda)

    def run(self, name, types, inputs, shapes, dtypes, numbers) -> list:
        """An operator of OPERATORS on jt.Var. `types`: the maps' dtype and the parameters'."""
        operator = OPERATORS[name]
        return _jit.run_cuda_kernel(operator.header, operator.source, inputs, shapes, dtypes, numbers)

    def cast(self, x, dtype):
        """x as another dtype, to the nearest."""
        return x.cast(dtype)

    def multiply(self, a, b, transpose_a, transpose_b):
        """The product of two matrices of one dtype, summed in float32."""
        # Not nn.matmul: of float16 maps its gradients would be float32 broadcasts, as large as rows · C · O. cuBLAS sums in
        # float32 and rounds once (CUBLAS_COMPUTE_32F) while jt.flags.use_tensorcore is 0: see run.precision_fault.
        return jt.compile_extern.cublas_ops.cublas_matmul(a, b, transpose_a, transpose_b)


_backends = [GPU()]


def backend():
    """The one that is set now."""
    return _backends[-1]


@contextlib.contextmanager
def set_backend(chosen):
    """Inside, `chosen` runs the CUDA operators; tests and tools take it for the GPU. run.use_backend also forgets what was checked."""
    _backends.append(chosen)
    try:
        yield
    finally:
        _backends.pop()
