"""The classes' names: the bundled ImageNet-1K list, a file's metadata, or the user's own list."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import NamedTuple

from ..errors import JvanError

IMAGENET_1K = "imagenet-1k"  # the bundled list's name in a weights file's metadata
_ASSET = Path(__file__).parents[1] / "assets" / "imagenet1k.tsv"
_WNID_FIRST = re.compile(r"(n\d{8})[\s,:]+(\S.*)")


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
    """A user's file: one name a line, a JSON list, or a JSON object {index: name}.

    A name may be preceded by its WordNet id (`n02124075 Egyptian cat`, in JSON also as a pair).
    JvanError for anything else.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise JvanError(f"{path}: labels must be UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise JvanError(f"{path}: labels cannot be read: {(error.strerror or str(error)).lower()}") from None
    if text.lstrip()[:1] in ("[", "{"):
        return tuple(_label(entry, index, path) for index, entry in enumerate(_json_entries(text, path)))
    lines = text.rstrip().split("\n")
    return tuple(_label(line, index, path) for index, line in enumerate(lines))


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
        if isinstance(document, dict):
            by_index = {int(key): entry for key, entry in document.items()}
            return [by_index[index] for index in range(len(document))]
    except KeyError as error:
        raise JvanError(f"{path}: the indices must run from 0 without a gap; {error.args[0]} is missing") from None
    except (ValueError, RecursionError) as error:
        raise JvanError(f"{path}: not a JSON list of labels or object of {{index: label}}: {error}") from None
    return document


def _label(entry, index: int, path) -> Label:
    if isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry):
        entry = " ".join(entry)
    if not isinstance(entry, str) or not entry.strip():
        raise JvanError(f"{path}: the label of class {index} is {entry!r}; it must be a text that is not empty")
    match = _WNID_FIRST.fullmatch(entry.strip())
    return Label(match[2].strip(), match[1]) if match else Label(entry.strip())
