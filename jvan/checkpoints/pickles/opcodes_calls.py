"""The pickle opcodes that name globals, call them and give objects their state.

INST, OBJ and the extension registry are refused: no state dict has them.
"""

from __future__ import annotations

from ..tensor import LazyTensor
from .numpy_objects import fill_array, set_order
from .opcodes import LONGEST_NAME, decoded, op
from .stand_ins import DType, Global, Inert, Named


@op(b"c")
def global_lines(m):
    module, name = m.line(LONGEST_NAME), m.line(LONGEST_NAME)
    m.find(decoded(m, module, "utf-8"), decoded(m, name, "utf-8"))


@op(b"\x93")
def stack_global(m):
    name, module = m.pop(), m.pop()
    if type(name) is not str or type(module) is not str:
        raise m.error("the pickle names a global by something that is no text; it is damaged or unsafe")
    m.find(module[:LONGEST_NAME], name[:LONGEST_NAME])


@op(b"R")
@op(b"\x81")
def reduce(m):
    args, function = m.pop(), m.pop()
    m.call(function, args)


@op(b"\x92")
def new_with_keywords(m):
    keywords, args, function = m.pop(), m.pop(), m.pop()
    if type(function) is Named and type(keywords) is dict and type(args) is tuple:
        args = (*args, keywords)
    elif keywords != {} and not (type(function) is Global and not function.allowed):
        raise m.error("the pickle makes an object with keyword arguments; no state dict does")
    m.call(function, args)


@op(b"b")
def build(m):
    state, target = m.pop(), m.top()
    if type(target) is Inert:
        if target.state is not None:
            raise m.error("the pickle gives one object its state twice; it is damaged")
        target.state = state
    elif type(target) is LazyTensor and target.shape is None:
        fill_array(m, target, state)
    elif type(target) is DType:
        set_order(m, target, state)
    elif type(target) is Named:
        m.refuse_opaque(target, "an object that was made")
    elif type(target) is not dict:  # a dict's state is OrderedDict's `_metadata`, which nothing needs
        raise m.error("the pickle gives a state to an object that has none; it is damaged or unsafe")


@op(b"Q")
def persistent_id(m):
    restore(m, m.pop())


@op(b"P")
def persistent_line(m):
    restore(m, decoded(m, m.line(LONGEST_NAME), "utf-8"))


def restore(m, identity):
    if m.storage_of is None:
        raise m.error("the pickle refers to data outside itself, which only torch's own formats do; it is damaged")
    m.made(m.storage_of(m, identity))


@op(b"i")
def inst(m):
    """Refused, but read, so that `inspect` can name every global."""
    module, name = decoded(m, m.line(LONGEST_NAME), "utf-8"), decoded(m, m.line(LONGEST_NAME), "utf-8")
    args = tuple(m.pop_mark())
    m.call(m.refuse(f"{module}.{name}"), args)


@op(b"o")
def obj(m):
    function, *args = m.pop_mark() or [None]
    name = function.name if type(function) in (Global, Named) else "something unnamed"
    m.call(m.refuse(name), tuple(args))


@op(b"\x82", 1)
@op(b"\x83", 2)
@op(b"\x84", 4)
def extension(m, width):
    m.push(m.refuse(f"extension code {m.number(width)}"))


@op(b"\x97")
@op(b"\x98")
def outside_buffer(m):
    raise m.error("the pickle keeps its data outside the file; save it again in one piece")
