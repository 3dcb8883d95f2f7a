"""Every global that a pickle may name, with what it becomes here; all others are refused by name."""

from __future__ import annotations

from typing import NamedTuple

from . import numpy_objects as of_numpy
from . import torch_objects as of_torch
from .source import Latin1, Span, Text
from .stand_ins import Global, Inert
from .torch_objects import inert


class Rule(NamedTuple):
    """`call` makes the stand-in (None: it may be named, not called); `needs`: names one of which must have come before."""

    call: object = None
    dtype: str | None = None
    needs: tuple[str, ...] | None = None


# Old and new homes of the same thing (Python 2 and 3, numpy 1 and 2, torch's devices).
MOVED = (
    ("__builtin__.", "builtins."),
    ("copy_reg.", "copyreg."),
    ("numpy._core.", "numpy.core."),
    ("torch.cuda.", "torch."),
    ("pathlib._local.", "pathlib."),
    ("jittor.jittor_core.Var", "jittor_core.Var"),
)
HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"
METHODS = ("min", "max", "mean", "current")


def renamed(name: str) -> str:
    """A global's name as the table has it."""
    for old, new in MOVED:
        if name.startswith(old):
            return new + name[len(old) :]
    return name


def ordered_dict(m, args) -> dict:
    """OrderedDict(), OrderedDict([(key, value), …]), Counter({…})."""
    made: dict = {}
    for source in args:
        for pair in source.items() if type(source) is dict else source if type(source) in (list, tuple) else (None,):
            if type(pair) not in (list, tuple) or len(pair) != 2:
                raise m.error("the pickle makes a dictionary from something that is none; it is damaged")
            m.set_item(made, *pair)
            m.objects += 1
    return made


def default_dict(m, args) -> dict:
    """defaultdict(factory): the factory is forgotten."""
    return ordered_dict(m, args[1:])


def deque(m, args) -> list:
    """deque([…], maxlen)."""
    if args and type(args[0]) not in (list, tuple):
        raise m.error("the pickle makes a deque from something that is no list; it is damaged")
    m.objects += len(args[0]) if args else 0
    return list(args[0]) if args else []


def encode(m, args):
    """_codecs.encode(text, "latin1"): how protocols 0 to 2 write bytes."""
    if len(args) != 2 or args[1] not in ("latin1", "latin-1") or type(args[0]) not in (str, Text):
        raise m.error("the pickle encodes text other than as Latin-1; it is damaged")
    if type(args[0]) is Text:
        return args[0].as_latin1()
    m.note_text(len(args[0]))
    try:
        return args[0].encode("latin-1")
    except UnicodeError:
        raise m.error("the pickle encodes text that is not Latin-1; it is damaged") from None


def byte_string(m, args):
    """bytes(), bytearray(b"…"), bytearray("…", "latin-1")."""
    if len(args) == 2:
        return encode(m, args)
    if not args:
        return b""
    if len(args) != 1 or type(args[0]) not in (bytes, Latin1, Span):
        raise m.error("the pickle makes bytes from something that is none; it is damaged")
    return args[0]


def complex_number(m, args) -> complex:
    if len(args) != 2 or not all(type(part) is float for part in args):
        raise m.error("the pickle holds a damaged complex number")
    return complex(*args)


def history_method(m, args):
    """getattr(HistoryBuffer, "mean"): mmengine's logs name their own methods so. Nothing is looked up."""
    if len(args) != 2 or type(args[0]) is not Global or args[0].name != HISTORY or args[1] not in METHODS:
        return m.refuse("builtins.getattr")
    return Inert(f"{HISTORY}.{args[1]}")


def reconstructor(m, args):
    """copyreg._reconstructor(class, object, None): how protocols 0 and 1 make plain objects."""
    if len(args) != 3 or type(args[0]) is not Global or type(args[1]) is not Global or args[2] is not None:
        raise m.error("the pickle makes an object in a way that no state dict needs; it is damaged or unsafe")
    made = Inert(args[0].name) if args[0].call is None or not args[0].allowed else args[0].call(m, ())
    return made


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
        "builtins.getattr": Rule(history_method, needs=(HISTORY,)),
        "collections.defaultdict": Rule(default_dict),
        "collections.Counter": Rule(ordered_dict),
        "collections.deque": Rule(deque),
    }
    for name, dtype in of_torch.STORAGES.items():
        rules[f"torch.{name}Storage"] = Rule(dtype=dtype)
    for dtype in of_torch.DTYPES:
        rules[f"torch.{dtype}"] = Rule(dtype=dtype)
    for name in ("int", "float", "str", "bool", "list", "dict", "tuple"):  # the factories of defaultdicts
        rules[f"builtins.{name}"] = Rule()
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
)
ALLOWED = _table()
