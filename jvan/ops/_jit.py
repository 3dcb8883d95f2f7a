"""Compiles the kernels of `kernels/` (C++) and `cuda/` on first use and runs them: the only caller of Jittor's code operator.

A kernel is a header. Jittor keeps a compiled operator under the text of its source and the number and
types of its inputs and outputs, so numbers travel at run time (in shapes and `numbers`), and one
operator serves all shapes.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

import jittor as jt

from .. import children
from .._say import warn

KERNELS = Path(__file__).parent / "kernels"
CUDA_KERNELS = Path(__file__).parent / "cuda"
SWITCH = "JVAN_KERNELS"

# What a test asks of the headers: bytes of a vector, 16, 32 or 64, and who runs AMX's tiles, 0 nobody, 2 amx_emulated.h. None
# lets the header choose the processor's.
vector_bytes = None
amx = None


def run_kernel(header, source, inputs, shapes, numbers=None, dtype="float32"):
    """Run `source`, C++ that calls what kernels/<header> declares, as jvan::name.

    It sees in0_p, in0_shape0, …, out0_p, …, and each of `numbers` as a variable of type int64_t.

    shapes: one shape per output -> list of as many jt.Var of type `dtype`
    """
    numbers = numbers or {}
    names = "".join(f'const int64_t {name} = data["{name}"];\n' for name in sorted(numbers))
    return jt.code(
        [tuple(shape) for shape in shapes],
        [dtype] * len(shapes),
        list(inputs),
        cpu_header=_header_text(header, JVAN_VECTOR_BYTES=vector_bytes, JVAN_AMX=amx),
        cpu_src=names + source,
        data={name: float(value) for name, value in numbers.items()},
    )


def run_named(header, source, inputs, outputs, numbers=None):
    """The same where variables have names: in `source`, {x} stands for what Jittor calls the variable x, as in {x}_shape0.

    inputs: name -> jt.Var; outputs: name -> shape -> list of as many jt.Var, in their order
    """
    placed = _placed(source, tuple(inputs), tuple(outputs))
    return run_kernel(header, placed, inputs.values(), outputs.values(), numbers)


@functools.cache
def members(*names: str) -> str:
    """C++ for `run_named` that fills a struct of pointers by name: {.x = in0_p, …}.

    `names` are in the struct's order: another one does not compile, nor does a name too many or too few (kernels/arguments.h).
    None is `in` or `out`, which Jittor defines as macros.
    """
    return "{{" + ", ".join(f".{name} = {{{name}}}_p" for name in names) + "}}"


@functools.cache
def _placed(source: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> str:
    places = {name: f"in{i}" for i, name in enumerate(inputs)}
    return source.format(**places, **{name: f"out{i}" for i, name in enumerate(outputs)})


def run_cuda_kernel(header, source, inputs, shapes, dtypes, numbers=None):
    """The same for `source` in CUDA C++, which launches what cuda/<header> declares; `numbers` are of type double.

    shapes, dtypes: one per output -> list of as many jt.Var
    """
    numbers = numbers or {}
    names = "".join(f'const double {name} = data["{name}"];\n' for name in sorted(numbers))
    path = CUDA_KERNELS / header
    return jt.code(
        [tuple(shape) for shape in shapes],
        list(dtypes),
        list(inputs),
        cuda_header=f'// {_digest(path)}\n#include "{path}"\n',
        cuda_src=names + source,
        data={name: float(value) for name, value in numbers.items()},
    )


def compile_in_turn() -> bool:
    """Keep the threads in which Jittor compiles operators out of each other's way: kernels/compile_in_turn.h says why.

    -> whether that could be done. Where it could not, Jittor compiles in one thread.
    """
    try:
        with jt.flag_scope(use_cuda=0):
            source = "out0_p[0] = jvan::install_compile_in_turn();"
            (done,) = run_kernel("compile_in_turn.h", source, [], [(1,)])[0].numpy()
    except RuntimeError:
        done = False
    if not done:
        jt.flags.use_parallel_op_compiler = 0
    return bool(done)


def can_run(*variables) -> bool:
    """Whether the C++ kernels can take these: float32 on the CPU, on a machine where they compile."""
    if jt.flags.use_cuda or any(v.dtype != "float32" for v in variables):
        return False
    reason = why_not()
    if reason and os.environ.get(SWITCH) != "0":
        warn_once(f"{reason}; plain Jittor operators run instead, slower")
    return reason is None


def why_not() -> str | None:
    """Why the kernels cannot run on this machine, in one line; None where they can."""
    if os.environ.get(SWITCH) == "0":
        return f"the C++ kernels are switched off: {SWITCH} is 0"
    return _compiler_fault(jt.flags.cc_path)


class Arithmetic(NamedTuple):
    """What products are computed with, in words; `native` is false where other units stand in for those of their dtype."""

    text: str
    native: bool = True


def arithmetic(dtype: str) -> Arithmetic:
    """What the products of a network of this dtype, "float32" or "bfloat16", are computed with on this machine."""
    if dtype == "float32":
        return Arithmetic("float32")
    if amx == 2:
        return Arithmetic("bfloat16 products by emulated AMX, float32 sums")
    found = _macros(jt.flags.cc_path, "-march=native") if vector_bytes in (None, 64) else {}
    tiles = amx is None and {"__AMX_BF16__", "__AMX_TILE__", "__AVX512F__", "__linux__"} <= found.keys()
    if tiles and _tiles_granted():
        return Arithmetic("bfloat16 products by AMX, float32 sums")
    why = ": the operating system grants no AMX" if tiles else ""
    if "__AVX512BF16__" in found:
        return Arithmetic(f"bfloat16 products by AVX512-BF16, float32 sums{why}")
    text = f"values rounded to bfloat16, float32 products and sums: no AVX512-BF16 here{why}"
    return Arithmetic(text, native=False)


def _tiles_granted() -> bool:
    """Ask Linux for AMX's tiles as kernels/amx.h does; it answers the same however often a process asks."""
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18  # by number: glibc has no function for it
    return ctypes.CDLL(None).syscall(*map(ctypes.c_long, (arch_prctl, request_permission, tile_data))) == 0


@functools.cache
def _compiler_fault(path: str) -> str | None:
    try:
        found = _macros(path)
    except (OSError, children.SubprocessError) as error:
        return f"the C++ kernels are off: {path} does not answer ({error})"
    needed = {"__clang_major__": ("Clang", 11), "__GNUC__": ("GCC", 9)}
    for macro, (compiler, version) in needed.items():
        if macro in found:
            if int(found[macro]) >= version:
                return None
            return f"the C++ kernels are off: they need {compiler} {version} or newer, {path} is {found[macro]}"
    return f"the C++ kernels are off: {path} is neither GCC nor Clang, whose vector types they use"


@functools.cache
def _macros(path: str, *options: str) -> dict[str, str]:
    """What a compiler defines before it reads anything."""
    command = [path, *options, "-dM", "-E", "-x", "c++", os.devnull]
    text = children.run_tool(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return dict(re.findall(r"^#define (\w+) (.*)$", text, re.M))


@functools.cache
def warn_once(message: str) -> None:
    """Say why a fast path is not taken: the first time, not at every step."""
    warn(message)


@functools.cache
def _header_text(header: str, **macros: int | None) -> str:
    defines = "".join(f"#define {name} {value}\n" for name, value in macros.items() if value is not None)
    return f'// {_digest(KERNELS / header)}\n{defines}#include "{KERNELS / header}"\n'


@functools.cache
def _digest(path: Path) -> str:
    # Jittor never looks again at an included file once the operator is compiled: the digest makes an edit a new operator.
    return hashlib.sha256(b"".join(file.read_bytes() for file in _with_includes(path))).hexdigest()[:16]


def _with_includes(path: Path, seen: tuple[Path, ...] = ()) -> tuple[Path, ...]:
    """A header and those that it includes from its folder; they write `# include "x.h"`.

    The space hides the line from Jittor's own search for includes, which knows no path relative to a file.
    """
    if path in seen:
        return seen
    seen = (*seen, path)
    for name in re.findall(r'^#\s*include "(.+)"', path.read_text(encoding="utf-8"), re.M):
        seen = _with_includes(path.parent / name, seen)
    return seen
