"""What lies beside the backbone in a segmentor's or detector's file: necks and heads, each a part with its own names."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import CheckpointError
from .origins import not_of_the_backbone
from .rename import WRAPPERS, Table, listed, uncompiled

BACKBONE = "backbone"
COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class Part:
    """A neck or a head: what its tensors' names begin with, and the shape of each by its name below that.

    `table` reads another project's names below the part's; without one they are ours.
    """

    name: str
    shapes: dict[str, tuple[int, ...]]
    table: Table | None = None


def find_parts(names, backbone: str, parts) -> tuple[dict[str, str], dict[str, int]]:
    """({our name: the file's} of all parts, how many names of each reason in `dropped` are these).

    names: all in the file; backbone: one of its backbone's. Our names begin with the part's, as `neck.` and
    `decode_head.`. Raises CheckpointError, with the part's name, for names that are unknown or collide.
    """
    plain = {name: uncompiled(name) for name in names if not name.endswith(COUNTER)}
    found, reasons = {}, {}
    for part in parts:
        kept = _below(plain, _outside(uncompiled(backbone), part), part)
        found.update({f"{part.name}.{ours}": file for ours, file in _translated(kept, part).items()})
        for name in kept:
            reason = not_of_the_backbone(f"{part.name}.{name}")
            reasons[reason] = reasons.get(reason, 0) + 1
    return found, reasons


def check_parts(shapes: dict[str, tuple[int, ...]], parts) -> None:
    """CheckpointError unless the tensors are exactly those of `parts`; `shapes`: {our name: shape} of all that were found."""
    problems = []
    for part in parts:
        wanted = full_shapes([part])
        own = {name: tuple(shape) for name, shape in shapes.items() if name.startswith(f"{part.name}.")}
        lists = {
            "missing": [name for name in wanted if name not in own],
            "unexpected": [name for name in own if name not in wanted],
            "misshapen": [f"{n} {own[n]} instead of {s}" for n, s in wanted.items() if n in own and own[n] != s],
        }
        problems += [f"{len(names)} {what}: {listed(names)}" for what, names in lists.items() if names]
    if problems:
        raise CheckpointError(
            f"the tensors are not a whole {' and '.join(part.name for part in parts)}: {'; '.join(problems)}; "
            "save the whole state dict again"
        )


def full_shapes(parts) -> dict[str, tuple[int, ...]]:
    """{our name: shape} of all tensors of `parts`, in their order."""
    return {f"{part.name}.{name}": tuple(shape) for part in parts for name, shape in part.shapes.items()}


def _below(plain: dict[str, str], outside: str, part: Part) -> dict[str, str]:
    """{name below the part's: the file's}; `plain`: {the file's name: without torch.compile's marks}."""
    place = f"{outside}{part.name}."
    kept = {name[len(place) :]: file for file, name in plain.items() if name.startswith(place)}
    own = [file for file, name in plain.items() if _unwrapped(name).startswith(f"{part.name}.")]
    if len(kept) < len(own):
        others = [file for file in own if file not in kept.values()]
        raise CheckpointError(
            f"{listed(others)}: not below {place} as the network's {part.name}, or there twice; save each parameter once"
        )
    return kept


def _unwrapped(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def _outside(backbone: str, part: Part) -> str:
    """What wraps backbone and part alike."""
    outside, found, _ = f".{backbone}".partition(f".{BACKBONE}.")
    if not found:
        raise CheckpointError(f"the file holds a backbone alone, and no {part.name}; give a file of the whole network")
    return f"{outside}."[1:]


def _translated(names: dict[str, str], part: Part) -> dict[str, str]:
    if part.table is None:
        return names
    ours = {name: part.table.ours(name) for name in names}
    unknown = [f"{part.name}.{name}" for name, known in ours.items() if known is None]
    if unknown:
        raise CheckpointError(f"{len(unknown)} of {len(names)} names are not known: {listed(unknown)}")
    if len(set(ours.values())) < len(ours):
        raise CheckpointError(f"names of {part.name} collide: {listed(names)}; save each parameter once")
    return {ours[name]: file for name, file in names.items()}
