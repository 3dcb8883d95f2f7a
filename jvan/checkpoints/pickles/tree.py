"""Checks on the structure that a pickle built; iterative, since a file decides how deep it is."""

from __future__ import annotations

from ..file_bytes import Source
from ..tensor import LazyTensor
from .stand_ins import Inert

MAX_DEPTH = 64
MAX_EXPANDED = 5_000_000
CONTAINERS = (list, tuple, dict, Inert)


def children(node):
    """The objects that a container holds directly; what lies in an object of a foreign class is nobody's business."""
    if type(node) is dict:
        return iter(node.values())
    if type(node) is Inert:
        return iter(() if node.foreign else (node.args, node.state, node.items))
    return iter(node)


def check_tree(root, source: Source) -> None:
    """CheckpointError for a structure that holds itself, is nested too deep, or would grow without bound
    if its shared parts were written out (so that any walk over it ends), and for arrays never filled in."""
    done: dict[int, tuple[int, int]] = {}  # id -> depth, and number of objects when written out
    path: set[int] = set()
    depth, size, rest, node = 0, 1, iter([root]), None
    outer: list[tuple] = []
    while True:
        for child in rest:
            known = _leaf(child, source) or done.get(id(child))
            if known is None:
                if id(child) in path:
                    raise source.error("the pickle holds a structure that contains itself; no state dict does")
                if len(outer) > MAX_DEPTH:
                    raise source.error(f"the pickle is nested more than {MAX_DEPTH} levels deep; no state dict is")
                path.add(id(child))
                outer.append((depth, size, rest, node))
                depth, size, rest, node = 0, 1, children(child), child
                break
            depth, size = max(depth, known[0]), size + known[1]
        else:
            if depth > MAX_DEPTH:
                raise source.error(f"the pickle is nested more than {MAX_DEPTH} levels deep; no state dict is")
            if size > MAX_EXPANDED:
                raise source.error("the pickle repeats its parts millions of times over; no state dict does")
            if not outer:
                return
            path.discard(id(node))
            known = done[id(node)] = depth + 1, size
            depth, size, rest, node = outer.pop()
            depth, size = max(depth, known[0]), size + known[1]


def _leaf(node, source: Source):
    if type(node) in CONTAINERS:
        return None
    if type(node) is LazyTensor and node.shape is None:
        raise source.error("the pickle holds an array without its contents; it is damaged")
    return (0, 1)


def tensors_in(root):
    """Every tensor below `root`, once, whatever holds it."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if type(node) is LazyTensor:
            yield node
        elif type(node) in CONTAINERS:
            waiting.extend(children(node))
