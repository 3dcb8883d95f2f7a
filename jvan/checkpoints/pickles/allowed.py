"""Every global that a pickle may name, with what it becomes here; all others are refused by name."""

from __future__ import annotations

from typing import NamedTuple

from . import numpy_objects as of_numpy
from . import torch_objects as of_torch
from .makers import (
    HISTORY,
    METHODS,
    attribute,
    byte_string,
    complex_number,
    default_dict,
    deque,
    encode,
    ordered_dict,
    reconstructor,
)
from .torch_objects import inert


class Rule(NamedTuple):
    """`call` makes the stand-in (None: it may be named, not called). One that is `settled_by_use` is refused unless
    it is used as real files use it."""

    call: object = None
    dtype: str | None = None
    settled_by_use: bool = False


# Old and new homes of the same thing (Python 2 and 3, numpy 1 and 2, torch's devices).
MOVED = (
    ("__builtin__.", "builtins."),
    ("copy_reg.", "copyreg."),
    ("numpy._core.", "numpy.core."),
    ("torch.cuda.", "torch."),
    ("pathlib._local.", "pathlib."),
    ("jittor.jittor_core.Var", "jittor_core.Var"),
)


def renamed(name: str) -> str:
    """A global's name as the table has it."""
    for old, new in MOVED:
        if name.startswith(old):
            return new + name[len(old) :]
    return name


def _table() -> dict[str, Rule]:
    rules = {
        # what a state dict is made of
        "collections.OrderedDict": Rule(ordered_dict),
        "torch._utils._rebuild_tensor": Rule(of_torch.tensor),
        "torch._utils._rebuild_tensor_v2": Rule(of_torch.tensor),
        "torch._utils._rebuild_tensor_v3": Rule(of_torch.typed_tensor),
        "torch._utils._rebuild_parameter": Rule(of_torch.parameter),
        "torch._utils._rebuild_parameter_with_state": Rule(of_torch.parameter),
        "torch._tensor._rebuild_from_type_v2": Rule(of_torch.from_type),
        "torch.nn.parameter.Parameter": Rule(of_torch.parameter),
        "torch.Tensor": Rule(),
        "torch.storage.UntypedStorage": Rule(),
        "torch.UntypedStorage": Rule(),
        "torch.Size": Rule(of_torch.size),
        "torch.device": Rule(inert("torch.device")),
        "numpy.ndarray": Rule(),
        "numpy.dtype": Rule(of_numpy.dtype),
        "numpy.core.multiarray._reconstruct": Rule(of_numpy.reconstruct),
        "numpy.core.multiarray.scalar": Rule(of_numpy.scalar),
        "numpy.core.numeric._frombuffer": Rule(of_numpy.from_buffer),
        "jittor_core.Var": Rule(of_torch.parameter),
        "_codecs.encode": Rule(encode),
        "builtins.bytes": Rule(byte_string),
        "builtins.bytearray": Rule(byte_string),
        "builtins.complex": Rule(complex_number),
        # how objects of the classes below are made and described
        "copyreg._reconstructor": Rule(reconstructor),
        "builtins.object": Rule(),
        "builtins.getattr": Rule(attribute, settled_by_use=True),
        "collections.defaultdict": Rule(default_dict),
        "collections.Counter": Rule(ordered_dict),
        "collections.deque": Rule(deque),
    }
    for name, kind in of_torch.OTHER_KINDS.items():
        rules[f"torch._utils.{name}"] = Rule(of_torch.other_kind(kind))
    for name in of_torch.QUANTISERS:
        rules[f"torch.{name}"] = Rule()
    for name, dtype in of_torch.STORAGES.items():
        rules[f"torch.{name}Storage"] = Rule(dtype=dtype)
    for dtype in of_torch.DTYPES:
        rules[f"torch.{dtype}"] = Rule(dtype=dtype)
    # the factories of defaultdicts, the types of a configuration's fields; protocol 2 has int and str in Python 2's words
    for name in ("int", "float", "str", "bool", "list", "dict", "tuple", "long", "unicode"):
        rules[f"builtins.{name}"] = Rule()
    for name in TYPING:
        rules[f"typing.{name}"] = Rule()
    for name in ("Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"):
        rules[f"enum.{name}"] = Rule()
    for method in METHODS:  # protocol 4 names them directly
        rules[f"{HISTORY}.{method}"] = Rule()
    for name in INERT:
        rules[name] = Rule(inert(name))
    return rules


# Metadata that real checkpoints hold: timm's arguments, mmengine's logs and configurations, paths.
INERT = (
    "argparse.Namespace",
    "builtins.set",
    "builtins.frozenset",
    "builtins.slice",
    "builtins.range",
    HISTORY,
    "mmengine.config.config.ConfigDict",
    "mmcv.utils.config.ConfigDict",
    "addict.Dict",
    "addict.addict.Dict",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib.PurePath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
    "torch.serialization._get_layout",
    "torch.torch_version.TorchVersion",
    "datetime.date",
    "datetime.datetime",
    "datetime.time",
    "datetime.timedelta",
    "datetime.timezone",
    "decimal.Decimal",
    "functools.partial",
    "types.SimpleNamespace",
    "uuid.SafeUUID",
    "uuid.UUID",
    "_operator.or_",  # how Python 3.11 writes an enum's combined flags
    "operator.or_",
    "_operator.getitem",  # how typing writes Dict[str, int]
    "operator.getitem",
)
TYPING = (
    "Any",
    "Callable",
    "Dict",
    "FrozenSet",
    "Iterable",
    "List",
    "Literal",
    "Mapping",
    "Optional",
    "Sequence",
    "Set",
    "Tuple",
    "Type",
    "Union",
)
ALLOWED = _table()
