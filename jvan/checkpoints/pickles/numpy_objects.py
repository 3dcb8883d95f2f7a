"""Our own makers for what numpy pickles: dtypes, arrays, scalars. Only arrays of numbers become tensors."""

from __future__ import annotations

import re

from ..file_bytes import HeldBytes, Latin1Bytes, SpanBytes
from ..tensor import DTYPES, LazyTensor
from .stand_ins import DType, Global

TEXTUAL = re.compile(r"[USVMm](\d{0,6})")  # strings, raw bytes, dates: kept as they lie, never read


def dtype(m, args) -> DType:
    """numpy.dtype("f4", align, copy)."""
    code = args[0] if args and type(args[0]) is str else ""
    order = code[:1] if code[:1] in ("<", ">", "=", "|") else ""
    code = code[len(order) :]
    if code.startswith("O"):
        raise m.error("holds a numpy array of Python objects, which is never read; save arrays of numbers")
    if code not in DTYPES and not TEXTUAL.fullmatch(code):
        raise m.error("holds a numpy dtype that is not read; save float, integer or bool arrays")
    return DType(code, ">" if order == ">" else "<")


def set_order(m, target: DType, state) -> None:
    """The state of a dtype: (version, byte order, subarray, names, fields, itemsize, alignment, flags …)."""
    if type(state) is not tuple or not 8 <= len(state) <= 9 or state[1] not in ("<", ">", "=", "|"):
        raise m.error("holds a damaged numpy dtype")
    if any(part is not None for part in state[2:5]):
        raise m.error("holds a numpy array of records, which is not read; save arrays of numbers")
    target.order = ">" if state[1] == ">" else "<"
    if target.code in ("U", "S", "V") and type(state[5]) is int and 0 <= state[5] < 1 << 20:
        target.code += str(state[5] // 4 if target.code == "U" else state[5])


def reconstruct(m, args) -> LazyTensor:
    """numpy.core.multiarray._reconstruct(ndarray, (0,), b"b"): an array that its state will fill."""
    m.refuse_opaque(args[0] if args else None, "numpy.ndarray")
    if len(args) != 3 or type(args[0]) is not Global or args[0].name != "numpy.ndarray":
        raise m.error("holds a numpy object that is no plain array; save arrays of numbers")
    return LazyTensor.blank(m.source)


def fill_array(m, target: LazyTensor, state) -> None:
    """The state of an array: (version, shape, dtype, Fortran order, data)."""
    if type(state) is not tuple or len(state) != 5 or type(state[3]) not in (bool, int):
        raise m.error("holds a damaged numpy array")
    _, shape, kind, fortran, data = state
    place(m, target, data, kind, shape, bool(fortran))


def from_buffer(m, args) -> LazyTensor:
    """numpy.core.numeric._frombuffer(data, dtype, shape, order), which protocol 5 uses."""
    if len(args) != 4 or args[3] not in ("C", "F"):
        raise m.error("holds a damaged numpy array")
    return place(m, LazyTensor.blank(m.source), args[0], args[1], args[2], args[3] == "F")


def scalar(m, args) -> LazyTensor:
    """numpy.core.multiarray.scalar(dtype, data): a tensor without dimensions."""
    if len(args) != 2:
        raise m.error("holds a damaged numpy scalar")
    return place(m, LazyTensor.blank(m.source), args[1], args[0], (), False)


def place(m, target: LazyTensor, data, kind, shape, fortran: bool) -> LazyTensor:
    """Fill `target` from contiguous bytes; their number must be exactly what shape and dtype need."""
    m.refuse_opaque(kind, "a numpy dtype")
    m.refuse_opaque(data, "an array's bytes")
    if type(data) is str and data.isascii():  # a Python 2 string
        m.note_text(len(data))  # a copy each time, of one string perhaps
        data = data.encode("ascii")
    data = HeldBytes(data) if type(data) is bytes else data
    if type(kind) is not DType or type(data) not in (HeldBytes, Latin1Bytes, SpanBytes) or type(shape) is not tuple:
        raise m.error("holds a numpy array whose data, dtype or shape is damaged")
    size = int(kind.code[1:] or 0) * (4 if kind.code[0] == "U" else 1)
    if kind.code[0] in "Mm":
        size = 8
    name = DTYPES.get(kind.code, kind.code)
    target.fill(data, name, shape, fortran_strides(shape) if fortran else None, 0, kind.order, size)
    if target.nbytes != data.nbytes:
        raise m.error(f"a numpy array of {data.nbytes} bytes claims the shape of {target.nbytes}; the file is damaged")
    return target


def fortran_strides(shape) -> tuple[int, ...] | None:
    """Strides, in elements, of an array whose first axis runs fastest."""
    strides, step = [], 1
    for n in shape[:64]:
        strides.append(step)
        step *= n if type(n) is int and 0 <= n < 1 << 62 else 1
    return tuple(strides)
