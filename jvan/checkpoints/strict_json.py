"""JSON from untrusted files: bounded in length, depth, number of values and digits; no key twice."""

from __future__ import annotations

import json
import re

MAX_DEPTH = 32
MAX_DIGITS = 400
MAX_VALUES = 400_000
_STRUCTURE = re.compile(r"[\[\]{},]")


def parse_json(data, limit: int):
    """The document in `data` (bytes of UTF-8); ValueError, in a few words, for anything malformed.

    The depth is counted before parsing: json recurses in C, and Jittor raises the recursion limit so
    far that a deep document would crash the interpreter.
    """
    if len(data) > limit:
        raise ValueError(f"it is {len(data)} bytes long; at most {limit} are read")
    try:
        text = str(data, "utf-8")
    except UnicodeError:
        raise ValueError("it is not UTF-8 text") from None
    _check_structure(text)
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_int=_integer, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no valid JSON at character {error.pos}") from None


def _check_structure(text: str) -> None:
    """Walk over brackets and commas outside of strings."""
    unescaped = text.replace("\\\\", "").replace('\\"', "")
    if unescaped.count('"') > 4 * MAX_VALUES:
        raise ValueError(f"it holds more than {MAX_VALUES} values")
    depth = values = 0
    for found in _STRUCTURE.finditer("".join(unescaped.split('"')[::2])):
        sign = found.group()
        depth += {"[": 1, "{": 1, ",": 0}.get(sign, -1)
        values += sign not in "]}"
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        if values > MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES} values")


def _unique(pairs) -> dict:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"it gives the key {twice[:100]!r} twice")
    return made


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError("it holds an enormous number")
    return int(digits)


def _no_constant(name: str):
    raise ValueError(f"it holds {name}, which is no JSON")
