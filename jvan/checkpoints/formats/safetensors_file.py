"""The safetensors format: an 8-byte length, a JSON header, then the tensors' bytes without gaps.

Described in the README of huggingface/safetensors; read more strictly here than that library does.
"""

from __future__ import annotations

from ..file_bytes import Source, SpanBytes, shown
from ..strict_json import parse_json
from ..tensor import LazyTensor

MAX_HEADER = 8 << 20  # VAN-B6's is 0.4 MiB
DTYPES = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
}


def is_safetensors(source: Source) -> bool:
    """Whether the first eight bytes are a length that fits and a JSON object follows."""
    if source.size < 10:
        return False
    return _header_length(source) <= source.size - 8 and source.view(8, 9) == b"{"


def read_safetensors(source: Source) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """The tensors by name, and the file's own metadata; CheckpointError for any contradiction."""
    begin = 8 + _header_length(source)
    try:
        header = parse_json(source.view(8, begin), MAX_HEADER)
    except ValueError as error:
        raise source.error(f"the safetensors header is damaged: {error}") from None
    metadata = header.pop("__metadata__", {})
    if type(metadata) is not dict or not all(type(text) is str for text in metadata.values()):
        raise source.error("the safetensors metadata is not text alone; the file is damaged")
    tensors = {name: _tensor(source, begin, name, row) for name, row in header.items()}
    _check_cover(source, begin, tensors)
    return tensors, metadata


def _header_length(source: Source) -> int:
    return int.from_bytes(source.view(0, 8), "little")


def _tensor(source: Source, begin: int, name: str, row) -> LazyTensor:
    if type(row) is not dict or set(row) != {"dtype", "shape", "data_offsets"}:
        raise source.error(f"the tensor {shown(name)} is not described by dtype, shape and data_offsets; it is damaged")
    dtype, place = row["dtype"], row["data_offsets"]
    if type(dtype) is not str or dtype not in DTYPES:
        raise source.error(f"the tensor {shown(name)} has the dtype {shown(dtype)}; known are {', '.join(DTYPES)}")
    if type(place) is not list or len(place) != 2 or not all(type(at) is int for at in place):
        raise source.error(f"the tensor {shown(name)} has damaged data_offsets")
    if not 0 <= place[0] <= place[1] <= source.size - begin:
        raise source.error(f"the tensor {shown(name)} lies outside the file, which is truncated or damaged")
    span = SpanBytes(source, begin + place[0], place[1] - place[0])
    tensor = LazyTensor(source, span, DTYPES[dtype], row["shape"])
    if tensor.nbytes != span.nbytes:
        raise source.error(
            f"the tensor {shown(name)} of {tensor.nbytes} bytes is given {span.nbytes}; the file is damaged"
        )
    return tensor


def _check_cover(source: Source, begin: int, tensors: dict[str, LazyTensor]) -> None:
    """The tensors follow each other without gap or overlap, to the end of the file."""
    at = begin
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].data.start, item[1].data.nbytes)):
        if tensor.data.start != at:
            kind = "overlaps another" if tensor.data.start < at else "follows a gap"
            raise source.error(f"the tensor {shown(name)} {kind}; the file is damaged or unsafe")
        at += tensor.data.nbytes
    if at != source.size:
        raise source.error(f"{source.size - at} bytes belong to no tensor; the file is damaged or unsafe")
