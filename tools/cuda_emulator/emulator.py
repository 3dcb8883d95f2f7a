"""The CUDA operators on the host: the same headers compiled by a C++ compiler against `emulator.h`.

It shows that indices, barriers and sums are right, on a machine without a GPU; it is slow, and says nothing about speed.
"""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path

import numpy as np

from jvan import children
from jvan.errors import JvanError
from jvan.ops import cuda
from jvan.ops.cuda.arrays import ARRAY_TYPES
from jvan.ops.cuda.operators import OPERATORS, types_of

HERE = Path(__file__).parent
KERNELS = Path(cuda.__file__).parent
# Of maps and of parameters: all that `run.can_run` lets through.
TYPES = (
    ("float32", "float32"),
    ("float16", "float16"),
    ("bfloat16", "float32"),
    ("float16", "float32"),
    ("bfloat16", "bfloat16"),
)
_C_TYPES = {"float32": "float", "float16": "jvan::half_t", "bfloat16": "jvan::bfloat16_t"}
_MARGIN = 64  # elements around an array, which a kernel must neither use nor change
_DIMS = 4


def build(folder, compiler="g++") -> Path:
    """The library of the operators in `folder`, compiled unless one of the same sources is there. JvanError where the compiler fails."""
    text = source_text() + _SETTING
    headers = sorted(path for pattern in ("*.h", "*.cuh") for place in (HERE, KERNELS) for path in place.glob(pattern))
    digest = hashlib.sha256(b"".join([text.encode(), *(path.read_bytes() for path in headers)])).hexdigest()[:16]
    source, library = (Path(folder) / f"emulated-{digest}.{kind}" for kind in ("cpp", "so"))
    if library.exists():
        return library
    part = library.with_suffix(".part")
    source.write_text(text, encoding="utf-8")
    command = [compiler, "-O1", "-std=c++14", "-w", "-fPIC", "-shared", f"-I{HERE}", str(source), "-o", str(part)]
    done = children.run_tool(command, capture_output=True, text=True)
    if done.returncode:
        raise JvanError(f"{compiler} cannot compile the CUDA kernels for the host: {done.stderr.strip()[:2000]}")
    part.replace(library)
    return library


class Emulator:
    """The operators of a library that `build` made."""

    def __init__(self, library):
        self.path, self.library = library, ctypes.CDLL(str(library))
        self.misaligned = False  # whether arrays begin one element after a multiple of 16 bytes

    def set(self, backwards=False, shared_limit=227 * 1024):
        """In which order a block's threads run between barriers, and how much shared memory the device has."""
        self.library.emulator_set(int(backwards), ctypes.c_int64(shared_limit))

    def run(self, name, types, inputs, shapes, numbers):
        """Run an operator on arrays; bfloat16 are uint16, their bits. -> one array per shape.

        types: (maps' dtype, parameters'). Raises RuntimeError for what the kernel refuses, and where it wrote past an output.
        """
        operator = OPERATORS[name]
        if "W" not in operator.inputs + operator.outputs:  # the same for all parameters' types
            types = next(pair for pair in TYPES if pair[0] == types[0])
        out_types = types_of(operator.outputs, *types)
        ins = [_with_margin(a.shape, a.dtype, self.misaligned, a) for a in inputs]
        outs = [_with_margin(shape, ARRAY_TYPES[dtype], self.misaligned) for shape, dtype in zip(shapes, out_types)]
        dims = [(*a.shape, *[1] * (_DIMS - a.ndim)) for _, a in ins + outs]
        call = getattr(self.library, f"{name}_{'_'.join(types)}")
        call.restype = ctypes.c_char_p
        pointers = (ctypes.c_void_p * len(dims))(*[a.ctypes.data for _, a in ins + outs])
        values = [float(numbers.get(n, 0)) for n in sorted(operator.numbers)]
        fault = call(pointers, (ctypes.c_int64 * (_DIMS * len(dims)))(*np.ravel(dims)), (ctypes.c_double * 16)(*values))
        if fault:
            raise RuntimeError(fault.decode())
        for whole, array in outs:
            edges = np.concatenate([whole[:_MARGIN], whole[_MARGIN + array.size :]])
            if edges.view(np.uint8).min() != 255:
                raise RuntimeError(f"{name} wrote past its output")
        return [array.copy() for _, array in outs]


def _with_margin(shape, dtype, misaligned, values=None):
    """(memory of NaN, the array inside)."""
    size = int(np.prod(shape))
    whole = np.empty(size + 2 * _MARGIN + 17, dtype)
    start = -(whole.ctypes.data // whole.itemsize) % 16 + int(misaligned)
    whole = whole[start : start + size + 2 * _MARGIN]
    whole.view(np.uint8)[:] = 255
    array = whole[_MARGIN : _MARGIN + size].reshape(shape)
    if values is not None:
        array[...] = values
    return whole, array


def source_text() -> str:
    """C++ of all operators for all pairs of types, each a C function that returns null or what went wrong."""
    headers = "".join(f'#include "{KERNELS / header}"\n' for header in sorted({o.header for o in OPERATORS.values()}))
    functions = "".join(_function(name, operator, types) for name, operator in OPERATORS.items() for types in TYPES)
    return f"{headers}\nstatic std::string fault;\n{functions}"


_SETTING = """
extern "C" void emulator_set(int backwards, int64_t limit) {
  jvan::emulator().backwards = backwards;
  jvan::emulator().limit = limit;
}
"""


def _function(name, operator, types) -> str:
    letters = [(f"in{i}", t) for i, t in enumerate(types_of(operator.inputs, *types))]
    letters += [(f"out{i}", t) for i, t in enumerate(types_of(operator.outputs, *types))]
    lines = []
    for i, (variable, dtype) in enumerate(letters):
        lines.append(f"auto {variable}_p = static_cast<{_C_TYPES[dtype]}*>(p[{i}]);")
        lines += [f"const int64_t {variable}_shape{j} = s[{i * _DIMS + j}];" for j in range(_DIMS)]
    lines += [f"const double {number} = v[{i}];" for i, number in enumerate(sorted(operator.numbers))]
    body = "\n".join([*lines, operator.source])
    signature = f'extern "C" const char* {name}_{"_".join(types)}(void** p, const int64_t* s, const double* v)'
    return f"{signature} {{\ntry {{\n{body}\nreturn nullptr;\n}} catch (const std::exception& e) {{ return (fault = e.what()).c_str(); }}\n}}\n"
