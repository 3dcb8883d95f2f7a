"""The classes' names: the bundled ImageNet-1K list, a file's metadata, or the user's own list."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from ..errors import JvanError

IMAGENET_1K = "imagenet-1k"  # the bundled list's name in a weights file's metadata
_ASSET = Path(__file__).parents[1] / "assets" / "imagenet1k.tsv"
_WNID_FIRST = re.compile(r"(n\d{8})[\s,:]+(\S.*)")
_NUMBER_FIRST = re.compile(r"\s*(\d+)(?:[\s,;:]|[.)]\s)\s*(\S.*)")


class Label(NamedTuple):
    """A class's name and, for ImageNet's classes, its WordNet id."""

    name: str
    wnid: str | None = None


@functools.lru_cache(maxsize=1)
def imagenet_labels() -> tuple[Label, ...]:
    """The 1,000 classes in the order of the networks' outputs, which is that of their WordNet ids."""
    rows = (line.split("\t") for line in _ASSET.read_text(encoding="utf-8").splitlines())
    return tuple(Label(name, wnid) for wnid, name in rows)


def read_labels(path) -> tuple[Label, ...]:
    """A user's file: one name a line, a JSON list, or a JSON object {index: name} or {name: index}.

    A name may be preceded by its WordNet id (`n02124075 Egyptian cat`, in JSON also as a pair). Lines are numbered where
    each begins with its index, counted from 0 or from 1: `7 up` alone is a name. JvanError for anything else.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise JvanError(f"{path}: labels must be UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise JvanError(f"{path}: labels cannot be read: {(error.strerror or str(error)).lower()}") from None
    entries = (
        _json_entries(text, path) if text.lstrip()[:1] in ("[", "{") else _without_numbers(text.rstrip().split("\n"))
    )
    return tuple(_label(entry, index, path) for index, entry in enumerate(entries))


def given_labels(labels) -> tuple[Label, ...]:
    """What a caller gives: a file's path (see `read_labels`), names in order, or a dict as in a JSON file.

    JvanError for a set, which has no order, and for a name that is no text.
    """
    if isinstance(labels, (str, PathLike)):
        return read_labels(labels)
    if isinstance(labels, Mapping):
        return tuple(_label(entry, index, "labels") for index, entry in enumerate(_by_index(labels, "labels")))
    if isinstance(labels, (set, frozenset, bytes)) or not isinstance(labels, Iterable):
        raise JvanError(
            f"labels is a {type(labels).__name__}; give a file's path, a list of names in the order of the classes, or a dict "
            "of index and name"
        )
    return tuple(Label(_name(entry, index)) for index, entry in enumerate(labels))


def labels_for(model_labels: tuple[str, ...] | str | None, num_classes: int) -> tuple[Label, ...]:
    """The labels that a weights file's metadata means; `class 17` and so on where it says nothing.

    JvanError for a list whose length is not `num_classes`, and for an unknown list's name.
    """
    if model_labels is None:
        return tuple(Label(f"class {index}") for index in range(num_classes))
    if model_labels == IMAGENET_1K:
        return checked(imagenet_labels(), num_classes, f"the list {IMAGENET_1K}")
    if isinstance(model_labels, str):
        raise JvanError(
            f"the weights name the label list {model_labels!r}, but only {IMAGENET_1K} is bundled; give labels"
        )
    return checked(tuple(Label(name) for name in model_labels), num_classes, "the weights' metadata")


def checked(labels: tuple[Label, ...], num_classes: int, source) -> tuple[Label, ...]:
    """The same labels, if there is one for every class; JvanError that names both counts."""
    if len(labels) != num_classes:
        raise JvanError(
            f"{source} has {len(labels)} labels, but the network has {num_classes} classes; give one label a class"
        )
    return labels


def _json_entries(text: str, path) -> list:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise JvanError(f"{path}: not a JSON list of labels or object of {{index: label}}: {error}") from None
    return _by_index(document, path) if isinstance(document, dict) else document


def _by_index(mapping: Mapping, source) -> list:
    """The names of {index: name}, or of {name: index} as training scripts keep it, in order; indices may be text."""
    if all(isinstance(key, str) and _is_whole(value) for key, value in mapping.items()):
        pairs = [(int(index), name) for name, index in mapping.items()]
    else:
        try:
            pairs = [(int(index), name) for index, name in mapping.items()]
        except (TypeError, ValueError):
            raise JvanError(
                f"{source}: neither {{index: label}} nor {{label: index}}, with whole numbers as indices"
            ) from None
    by_index = dict(pairs)
    twice = [index for index, count in Counter(index for index, _ in pairs).items() if count > 1]
    if twice:
        raise JvanError(f"{source}: index {twice[0]} stands there twice; give each class one")
    missing = next((index for index in range(len(by_index)) if index not in by_index), None)
    if missing is not None:
        raise JvanError(f"{source}: the indices must run from 0 without a gap; {missing} is missing")
    return [by_index[index] for index in range(len(by_index))]


def _without_numbers(lines: list[str]) -> list[str]:
    found = [_NUMBER_FIRST.fullmatch(line.rstrip()) for line in lines]
    if all(found):
        numbers = [int(match[1]) for match in found]
        if numbers in (list(range(len(lines))), list(range(1, len(lines) + 1))):
            return [match[2] for match in found]
    return lines


def _name(entry, index: int) -> str:
    if not isinstance(entry, str) and not _is_whole(entry):
        raise JvanError(f"labels: the label of class {index} is {entry!r}; it must be a text")
    return str(entry)


def _is_whole(value) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _label(entry, index: int, path) -> Label:
    if isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry):
        entry = " ".join(entry)
    if not isinstance(entry, str) or not entry.strip():
        raise JvanError(f"{path}: the label of class {index} is {entry!r}; it must be a text that is not empty")
    match = _WNID_FIRST.fullmatch(entry.strip())
    return Label(match[2].strip(), match[1]) if match else Label(entry.strip())
