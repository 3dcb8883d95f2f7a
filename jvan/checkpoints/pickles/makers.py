"""Our own makers for what Python's own classes pickle: dictionaries, bytes, numbers, attributes, plain objects."""

from __future__ import annotations

from ..file_bytes import Latin1Bytes, SpanBytes, TextBytes
from .foreign_names import is_attribute, is_torch_class
from .stand_ins import Global, Inert, Named

HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"
METHODS = ("min", "max", "mean", "current")


def ordered_dict(m, args) -> dict:
    """OrderedDict(), OrderedDict([(key, value), …]), Counter({…})."""
    made: dict = {}
    for source in args:
        m.refuse_opaque(source, "a dictionary")
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
    if len(args) != 2 or args[1] not in ("latin1", "latin-1") or type(args[0]) not in (str, TextBytes):
        raise m.error("the pickle encodes text other than as Latin-1; it is damaged")
    if type(args[0]) is TextBytes:
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
    if len(args) != 1 or type(args[0]) not in (bytes, Latin1Bytes, SpanBytes):
        raise m.error("the pickle makes bytes from something that is none; it is damaged")
    return args[0]


def complex_number(m, args) -> complex:
    if len(args) != 2 or not all(type(part) is float for part in args):
        raise m.error("the pickle holds a damaged complex number")
    return complex(*args)


def attribute(m, args):
    """getattr(HistoryBuffer, "mean"), as mmengine's logs name their own methods, and getattr(Outer, "Inner"), as
    protocol 2 names a nested class or an enum's member. Nothing is looked up."""
    owner, name = args if len(args) == 2 else (None, None)
    if type(owner) is Global and owner.name == HISTORY and type(name) is str and name in METHODS:
        m.names.settle()
        return Inert(f"{HISTORY}.{name}")
    if type(owner) is Named and not owner.nested and is_attribute(name):
        m.names.settle()
        m.note_text(len(owner.name) + len(name))
        return m.names.foreign(f"{owner.name}.{name}", nested=True)
    return m.refuse(m.names.unsettled[0] if m.names.unsettled else "builtins.getattr")


def reconstructor(m, args):
    """copyreg._reconstructor(class, object, None): how protocols 0 and 1 make plain objects."""
    if len(args) == 3 and type(args[0]) is Named and type(args[1]) in (Global, Named):
        return Inert(args[0].name, args[2:], foreign=True)  # the last is what a class of dictionaries holds
    if len(args) != 3 or type(args[0]) is not Global or type(args[1]) is not Global or args[2] is not None:
        raise m.error("the pickle makes an object in a way that no state dict needs; it is damaged or unsafe")
    if is_torch_class(args[0].name) and args[0].call is None:
        raise m.whole_object(args[0].name)
    return Inert(args[0].name) if args[0].call is None or not args[0].allowed else args[0].call(m, ())
