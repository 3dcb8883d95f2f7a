"""Our own makers for what PyTorch pickles: tensors over storages, parameters, devices, sizes."""

from __future__ import annotations

from ..file_bytes import shown
from ..tensor import MAX_DIMS, LazyTensor, itemsize
from .foreign_names import is_torch_class
from .stand_ins import Global, Inert, OtherTensor, Storage

# torch.FloatStorage and so on; the same classes are named under torch.cuda.
STORAGES = {
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Double": "float64",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "QInt8": "int8",
    "QUInt8": "uint8",
    "QInt32": "int32",
}
DTYPES = (
    *dict.fromkeys(STORAGES.values()),
    "uint16",
    "uint32",
    "uint64",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
)
DTYPES += ("float8_e5m2fnuz", "float8_e8m0fnu")

# Kinds of tensors that are data, and that no VAN has: torch's function for each.
OTHER_KINDS = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_qtensor": "quantised",
    "_rebuild_meta_tensor_no_storage": "meta",
    "_rebuild_nested_tensor": "nested",
}
QUANTISERS = ("per_tensor_affine", "per_channel_affine", "per_tensor_symmetric", "per_channel_symmetric")
QUANTISERS += ("per_channel_affine_float_qparams",)


def tensor(m, args) -> LazyTensor:
    """_rebuild_tensor(storage, offset, size, stride), _v2(…, requires_grad, hooks, [metadata])."""
    if len(args) not in (4, 6, 7):
        raise m.error("a torch tensor has the wrong number of parts; the file is damaged")
    _refuse_marks(m, args[6:])
    return _over(m, args[0], args[1:4], None)


def typed_tensor(m, args) -> LazyTensor:
    """_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, [metadata])."""
    if len(args) not in (7, 8) or type(args[6]) is not Global or args[6].dtype is None:
        raise m.error("a torch tensor has the wrong number of parts; the file is damaged")
    _refuse_marks(m, args[7:])
    return _over(m, args[0], args[1:4], args[6].dtype)


def _refuse_marks(m, metadata) -> None:
    if any(metadata):
        raise m.error("a torch tensor is marked as negated or conjugated; save it resolved (resolve_neg, resolve_conj)")


def _over(m, storage, place, dtype: str | None) -> LazyTensor:
    m.refuse_opaque(storage, "a storage")
    if type(storage) is not Storage or (dtype or storage.dtype) is None:
        raise m.error("a torch tensor has no storage; the file is damaged")
    offset, shape, strides = place
    return LazyTensor(m.source, storage.data, dtype or storage.dtype, shape, strides, offset, storage.order)


def parameter(m, args) -> LazyTensor | OtherTensor:
    """_rebuild_parameter(data, requires_grad, hooks, [state]), torch.nn.Parameter(data, requires_grad)."""
    m.refuse_opaque(args[0] if args else None, "a tensor")
    if not args or type(args[0]) not in (LazyTensor, OtherTensor):
        raise m.error("a torch parameter holds no tensor; the file is damaged")
    return args[0]


def from_type(m, args):
    """_rebuild_from_type_v2(rebuild, type, args, state): a tensor that somebody gave attributes."""
    for part in args[:2]:
        m.refuse_opaque(part, "a tensor of torch's own class")
    plain = len(args) == 4 and all(type(part) is Global for part in args[:2]) and type(args[2]) is tuple
    if not plain or args[0].call not in (tensor, typed_tensor, parameter):
        raise m.error("a torch tensor is of a class of its own; save plain tensors")
    if args[1].name not in ("torch.Tensor", "torch.nn.parameter.Parameter"):
        raise m.error(f"a torch tensor is of the class {shown(args[1].name)}; save plain tensors")
    return args[0].call(m, args[2])


def size(m, args) -> tuple:
    """torch.Size((2, 3))."""
    if len(args) != 1 or type(args[0]) not in (tuple, list) or len(args[0]) > MAX_DIMS:
        raise m.error("a torch size is damaged")
    return tuple(args[0])


def storage_type(m, identity) -> tuple[str | None, str, int]:
    """The dtype, key and number of elements in ("storage", type, key, location, numel, …)."""
    if type(identity) is not tuple or not 5 <= len(identity) <= 6 or identity[0] != "storage":
        raise m.error("a torch storage is not described as torch does; the file is damaged")
    kind, key, count = identity[1], identity[2], identity[4]
    m.refuse_opaque(kind, "a class of storages")
    named = type(kind) is Global and kind.name.endswith("Storage") and not is_torch_class(kind.name)
    if not named or type(key) is not str or type(count) is not int or not 0 <= count < 1 << 48:
        raise m.error("a torch storage is not described as torch does; the file is damaged")
    return kind.dtype, key, count


def nbytes(dtype: str | None, count: int) -> int:
    """Bytes of a storage; an untyped one counts bytes."""
    return count * (1 if dtype is None else itemsize(dtype))


def inert(name: str):
    """A maker of stand-ins for a class that a file may name and fill, and that is never imported."""

    def make(m, args) -> Inert:
        return Inert(name, args)

    return make


def other_kind(kind: str):
    """A maker of stand-ins for tensors of a kind that is not read."""

    def make(m, args) -> OtherTensor:
        return OtherTensor(kind)

    return make
