"""A tensor that knows where its elements lie in the file and copies them when asked."""

from __future__ import annotations

import numpy as np

from .file_bytes import Source, shown

# numpy's type codes without byte order; bfloat16 is read as uint16 and widened, which is exact.
CODES = {
    "float16": "f2",
    "bfloat16": "u2",
    "float32": "f4",
    "float64": "f8",
    "complex64": "c8",
    "complex128": "c16",
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "bool": "u1",
}
DTYPES = {code: name for name, code in CODES.items() if name not in ("bfloat16", "bool")}
DTYPES["b1"] = "bool"
MAX_DIMS = 32  # numpy 1.x holds no more
MAX_BYTES = 1 << 47
MAX_REPEATED = 1 << 16  # elements of a small tensor that was saved expanded


# Known only so that such a file can be shown; their elements are not read.
UNREAD = {"float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1}


def itemsize(dtype: str) -> int:
    """Bytes of one element in the file."""
    return UNREAD[dtype] if dtype in UNREAD else int(CODES[dtype][1:])


class LazyTensor:
    """A tensor in a file: shape, dtype, and the storage (`nbytes` and `view()`) that holds its elements.

    `offset` and `strides` count elements, as PyTorch's do; without strides the elements are contiguous
    in C order. `order` is the file's byte order. `blank` makes a tensor that a pickle fills in later.
    """

    __slots__ = ("_offset", "_order", "_strides", "data", "dtype", "itemsize", "shape", "source")

    def __init__(self, source: Source, data, dtype: str, shape, strides=None, offset: int = 0, order: str = "<"):
        self.source = source
        self.fill(data, dtype, shape, strides, offset, order)

    @classmethod
    def blank(cls, source: Source) -> LazyTensor:
        tensor = cls.__new__(cls)
        tensor.source, tensor.data, tensor.dtype, tensor.shape = source, None, None, None
        return tensor

    def fill(self, data, dtype: str, shape, strides=None, offset: int = 0, order: str = "<", size: int | None = None):
        """Set and check everything; CheckpointError unless every element lies in the storage, and unless there
        are no more of them than the storage has or they are few: strides of 0 could claim any number."""
        shape, strides = self._checked(shape, strides, offset)
        size = itemsize(dtype) if size is None else size
        held = data.nbytes // size if size else 0
        count = _product(shape)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides) if n > 1)
        if count and (last >= held or count > max(held, MAX_REPEATED)):
            raise self.source.error(
                f"a tensor of shape {_short(shape)}, strides {_short(strides)} and offset {offset} needs more than "
                f"the {held} elements of its storage; the file is damaged"
            )
        if _product(n for n in shape if n) * max(size, 1) >= MAX_BYTES:
            raise self.source.error(f"a tensor claims the impossible shape {_short(shape)}; the file is damaged")
        self.data, self.dtype, self.shape, self.itemsize = data, dtype, shape, size
        self._strides, self._offset, self._order = strides, offset, order

    def _checked(self, shape, strides, offset):
        if not _naturals(shape) or not (strides is None or _naturals(strides)) or not _naturals((offset,)):
            raise self.source.error(
                f"a tensor has shape {_short(shape)}, strides {_short(strides)} and offset {_short(offset)}, "
                "not counts of 0 or more; the file is damaged"
            )
        if len(shape) > MAX_DIMS or (strides is not None and len(strides) != len(shape)):
            raise self.source.error(f"a tensor has shape {_short(shape)} and strides {_short(strides)}; it is damaged")
        return tuple(shape), contiguous(shape) if strides is None else tuple(strides)

    @property
    def readable(self) -> bool:
        """Whether numpy can hold its elements: numbers of a type in the table."""
        return self.dtype in CODES

    @property
    def numel(self) -> int:
        return _product(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements themselves, as the file's dtype stores them."""
        return self.numel * self.itemsize

    def numpy(self) -> np.ndarray:
        """Copy the elements out: a fresh C-contiguous array in native byte order; bfloat16 as float32.

        CheckpointError for a dtype that numpy lacks, a closed file, or a failed checksum.
        """
        if not self.readable:
            raise self.source.error(f"a tensor has the dtype {shown(self.dtype)}, which is not read; convert it first")
        code, size = self._order + CODES[self.dtype], self.itemsize
        if not self.numel:
            array = np.zeros(self.shape, code)
        else:
            strides = [s * size if n > 1 else size for n, s in zip(self.shape, self._strides)]
            stored = np.ndarray(self.shape, code, self.data.view(), self._offset * size, strides)
            array = np.array(stored, order="C", copy=True)
        if self.dtype == "bfloat16":
            return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        if self.dtype == "bool":
            return array != 0
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def __repr__(self) -> str:
        return f"LazyTensor({self.dtype}, {self.shape})"


def contiguous(shape) -> tuple[int, ...]:
    """Strides, in elements, of a C-ordered array."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def _product(numbers) -> int:
    total = 1
    for n in numbers:
        total *= n
    return total


def _naturals(numbers) -> bool:
    return type(numbers) in (tuple, list) and all(type(n) is int and 0 <= n < 1 << 62 for n in numbers)


def _short(value) -> str:
    """A shape from a file, in a few words whatever it really is."""
    if type(value) in (tuple, list):
        return "(" + ", ".join(_number(v) for v in value[:8]) + (", …)" if len(value) > 8 else ")")
    return "none" if value is None else _number(value)


def _number(value) -> str:
    return str(value) if type(value) is int and abs(value) < 1 << 64 else "?"
