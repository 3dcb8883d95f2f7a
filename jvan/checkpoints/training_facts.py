"""What a training run left beside its weights: how it prepared its pictures, and what its classes are called."""

from __future__ import annotations

from dataclasses import replace

from .._text import printable
from ..preprocessing import Preprocessing
from .pickles.stand_ins import Inert

_NONE = (None, "", "random")  # timm's scripts have these where nothing was said
# Where class names lie: torchvision's data sets and scripts that follow them, mmcls and mmseg, mmengine.
_NAMES = (
    ("class_to_idx",),
    ("class_names",),
    ("meta", "CLASSES"),
    ("meta", "dataset_meta", "classes"),
    ("dataset_meta", "classes"),
)


def prepared(levels: list, default: Preprocessing) -> tuple[Preprocessing, list[str]]:
    """`default` with what the training script's arguments say, and notes on what was taken and what was not.

    `levels` are the dicts around the weights. Of several that hold arguments the file's outermost decides.
    """
    said = next(filter(None, (_arguments(level) for level in levels)), {})
    taken, refused = [], []
    for key, value in said.items():
        try:
            default = replace(default, **{key: _value(key, value, len(default.mean))})
            taken.append(f"{key} {getattr(default, key)}")
        except (ValueError, TypeError):
            refused.append(f"{key} {printable(_shown(value), 60)}")
    notes = [f"pictures are prepared as in its training, by the file's args: {', '.join(taken)}"] if taken else []
    if refused:
        notes.append(
            f"the file's args say {', '.join(refused)}, which cannot be; state them by `jvan convert --mean …`"
        )
    return default, notes


def class_names_in(levels: list, num_classes: int) -> tuple[tuple[str, ...] | None, list[str]]:
    """The classes' names in the order of the head's outputs, and why those in the file are not taken."""
    for level in levels if num_classes else ():
        for path in _NAMES:
            held = _at(level, path)
            if held is None:
                continue
            names, where = _ordered(held), ".".join(path)
            if names is None:
                return None, [f"the class names under {where} are not taken: they are no list of names, each once"]
            if len(names) != num_classes:
                return None, [f"the {len(names)} class names under {where} are not taken: the head has {num_classes}"]
            return names, []
    return None, []


def _arguments(level: dict) -> dict:
    """What the script's arguments say of pictures, under the names of Preprocessing."""
    held = level.get("args")
    held = held.state if type(held) is Inert and not held.foreign else held
    if type(held) is not dict:
        return {}
    size = held.get("input_size") if _said(held.get("input_size")) else held.get("img_size")
    found = {"size": size, **{key: held.get(key) for key in ("crop_pct", "interpolation", "mean", "std")}}
    return {key: value for key, value in found.items() if _said(value)}


def _said(value) -> bool:
    return not any(value is none or (type(value) is str and value == none) for none in _NONE)


def _value(key: str, value, channels: int):
    """A value as Preprocessing has it; ValueError or TypeError for what is none."""
    if key == "size" and type(value) in (list, tuple):  # (channels, height, width), or height and width
        height, width = value[-2:]
        if height != width:
            raise ValueError(f"{height} x {width} is no square")
        return height
    if key in ("mean", "std"):
        numbers = [float(number) for number in ((value,) if type(value) in (int, float) else value)]
        numbers = numbers * channels if len(numbers) == 1 else numbers
        if len(numbers) != channels:
            raise ValueError(f"{len(numbers)} numbers for {channels} channels")
        return tuple(numbers)
    return value


def _shown(value) -> str:
    if type(value) in (list, tuple):
        return "[" + ", ".join(_shown(part) if type(part) not in (list, tuple) else "…" for part in value[:8]) + "]"
    return repr(value) if type(value) in (str, int, float, bool) else type(value).__name__


def _at(level, path: tuple[str, ...]):
    for key in path:
        level = level.state if type(level) is Inert and not level.foreign else level
        if type(level) is not dict:
            return None
        level = level.get(key)
    return level


def _ordered(held) -> tuple[str, ...] | None:
    """Names in a list, or a dict from names to their numbers; None for anything else."""
    if type(held) is dict:
        order = {number: name for name, number in held.items() if type(number) is int}
        held = [order.get(number) for number in range(len(held))]
    plain = type(held) in (list, tuple) and held and all(type(name) is str for name in held)
    return tuple(held) if plain and len(set(held)) == len(held) else None
