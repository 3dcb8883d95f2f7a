"""The emulator as the backend of `jvan.ops.cuda`: the host computes what a GPU would."""

from __future__ import annotations

import jittor as jt

from jvan.ops.cuda.arrays import stored
from jvan.ops.cuda.launch import to_array, to_variable


class Emulated:
    """An `emulator.Emulator` for `jvan.ops.cuda.launch.use_backend`."""

    has_clock = compiles = False

    def __init__(self, emulator):
        self.emulator = emulator

    def is_used(self) -> bool:
        return True

    def run(self, name, types, inputs, shapes, dtypes, numbers) -> list:
        arrays = [to_array(v) for v in inputs]
        outputs = self.emulator.run(name, types, arrays, [tuple(shape) for shape in shapes], numbers)
        return [to_variable(array, dtype) for array, dtype in zip(outputs, dtypes)]

    def cast(self, x, dtype):
        """To the nearest, as a GPU's cast does it: Jittor's on the CPU cuts bfloat16 off (fp16_compute.h)."""
        return to_variable(stored(x.numpy(), "bfloat16"), "bfloat16") if dtype == "bfloat16" else x.cast(dtype)

    def multiply(self, a, b, transpose_a, transpose_b):
        a, b, dtype = a.float32(), b.float32(), a.dtype
        a, b = (a.transpose() if transpose_a else a), (b.transpose() if transpose_b else b)
        product = jt.matmul(a, b)
        return product if product.dtype == dtype else self.cast(product, str(dtype))
