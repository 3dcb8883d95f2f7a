"""A JSON object from a file that is carried and not interpreted: plain types, bounded, and nobody can change it."""

from __future__ import annotations

import math
from collections.abc import Mapping

MAX_DEPTH = 16
MAX_VALUES = 10_000
MAX_INTEGER = 1 << 53  # beyond it other JSON readers round


class JSONObject(Mapping):
    """A mapping whose lists are tuples and whose objects are JSONObjects; equal to a dict of the same content."""

    __slots__ = ("_held",)

    def __init__(self, held: dict):
        self._held = held

    def __getitem__(self, key):
        return self._held[key]

    def __iter__(self):
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __hash__(self) -> int:
        return hash(frozenset(self._held.items()))

    def __repr__(self) -> str:
        return repr(self._held)


def json_object(value) -> JSONObject | None:
    """`value`, a mapping or None, as it will be read back; ValueError, in a few words, for what is no JSON or too much."""
    if value is not None and not isinstance(value, Mapping):
        raise ValueError("is no object")
    left = [MAX_VALUES]
    return None if value is None else _frozen(value, MAX_DEPTH, left)


def _frozen(value, depth: int, left: list[int]):
    left[0] -= 1
    if left[0] < 0 or depth < 0:
        limit = f"{MAX_VALUES} values" if depth >= 0 else f"{MAX_DEPTH} levels"
        raise ValueError(f"has more than {limit}")
    if isinstance(value, Mapping):
        if not all(type(key) is str for key in value):
            raise ValueError("has a key that is no text")
        return JSONObject({key: _frozen(held, depth - 1, left) for key, held in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(held, depth - 1, left) for held in value)
    number = (type(value) is int and abs(value) <= MAX_INTEGER) or (type(value) is float and math.isfinite(value))
    if not (number or value is None or type(value) in (bool, str)):
        raise ValueError(f"holds a {type(value).__name__} that cannot be written as JSON, or a number beyond all use")
    return value
