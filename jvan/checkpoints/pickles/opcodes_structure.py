"""The pickle opcodes for containers, the stack and the memo."""

from __future__ import annotations

from .opcodes import INTEGER, op
from .stand_ins import Inert


@op(b"(")
def mark(m):
    m.mark()


@op(b")", tuple)
@op(b"]", list)
@op(b"}", dict)
def empty(m, kind):
    m.made(kind())


@op(b"\x8f")
def empty_set(m):
    m.made(Inert("builtins.set"))


@op(b"t", tuple)
@op(b"l", list)
def marked_sequence(m, kind):
    items = m.pop_mark()
    m.made(kind(items))


@op(b"\x91")
def frozen_set(m):
    items = m.pop_mark()
    m.made(Inert("builtins.frozenset", (items,)))


@op(b"\x85", 1)
@op(b"\x86", 2)
@op(b"\x87", 3)
def short_tuple(m, size):
    m.made(tuple(reversed([m.pop() for _ in range(size)])))


@op(b"d")
def marked_dict(m):
    items = m.pop_mark()
    m.made({})
    put_pairs(m, items)


@op(b"a")
def append(m):
    item = m.pop()
    extend(m, [item])


@op(b"e")
@op(b"\x90")
def appends(m):
    extend(m, m.pop_mark())


def extend(m, items):
    target = m.top()
    if type(target) is Inert:
        target.items.extend(items)
    elif type(target) is list:
        target.extend(items)
    else:
        raise m.error("the pickle appends to something that is no list; it is damaged")


@op(b"s")
def set_item(m):
    value, key = m.pop(), m.pop()
    put_pairs(m, [key, value])


@op(b"u")
def set_items(m):
    put_pairs(m, m.pop_mark())


def put_pairs(m, items):
    target = m.top()
    if len(items) % 2 or type(target) not in (dict, Inert):
        raise m.error("the pickle sets items of something that is no dictionary; it is damaged")
    for key, value in zip(items[::2], items[1::2]):
        if type(target) is Inert:
            m.objects += 1
            target.items.append((key, value))
        else:
            m.set_item(target, key, value)


@op(b"0")
def pop(m):
    if m.stack:
        m.stack.pop()
    else:
        m.pop_mark()


@op(b"1")
def pop_mark(m):
    m.pop_mark()


@op(b"2")
def duplicate(m):
    m.push(m.top())


@op(b"q", 1)
@op(b"r", 4)
def put(m, width):
    m.memo[m.number(width)] = m.top()


@op(b"\x94")
def memoize(m):
    m.memo[len(m.memo)] = m.top()


@op(b"h", 1)
@op(b"j", 4)
def get(m, width):
    recall(m, m.number(width))


@op(b"p")
def put_line(m):
    m.memo[memo_index(m)] = m.top()


@op(b"g")
def get_line(m):
    recall(m, memo_index(m))


def memo_index(m) -> int:
    digits = m.line(20)
    if not INTEGER.fullmatch(digits):
        raise m.error("the pickle refers to an object by something that is no number; it is damaged")
    return int(digits)


def recall(m, index):
    if index not in m.memo:
        raise m.error("the pickle refers to an object that it did not make; it is damaged")
    m.push(m.memo[index])
