"""Names from one project to another: an ordered table of rows, and one strict engine that reads it both ways."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from .._text import printable
from ..errors import CheckpointError

# What a placeholder of a row stands for. Block numbers are written without leading zeros, so that a name has one spelling.
FIELDS = {
    "stage": "[1-4]",
    "stage0": "[0-3]",  # counted from zero
    "block": "0|[1-9][0-9]{0,3}",
    "tensor": "weight|bias",
    "norm": "weight|bias|running_mean|running_var",
    "any": ".+",
}
WRAPPERS = ("module.", "model.", "backbone.")  # DataParallel, exporters and trainers, detectors and segmentors
SHOWN = 10


@dataclass(frozen=True)
class Row:
    """A foreign name and ours, both with placeholders from FIELDS; `ours` None drops the name for `reason`."""

    foreign: str
    ours: str | None
    reason: str = ""


class Table:
    """Ordered rows, each matched whole; the first match wins. The inverse is the same rows read from the right."""

    def __init__(self, rows):
        self._kept = [(_pattern(row.foreign), _pattern(row.ours), row) for row in rows if row.ours is not None]
        wrapped = "(?:" + "|".join(re.escape(prefix) for prefix in WRAPPERS) + ")*"
        self._dropped = [(re.compile(wrapped + _pattern(row.foreign).pattern), row) for row in rows if row.ours is None]

    def dropped(self, name: str) -> str | None:
        """Why this name is dropped on purpose (whatever wraps it), or None."""
        return next((row.reason for pattern, row in self._dropped if pattern.fullmatch(name)), None)

    def ours(self, name: str) -> str | None:
        """Our name for a foreign one; None for an unknown one."""
        matches = ((foreign.fullmatch(name), row.ours) for foreign, _, row in self._kept)
        return next((_fill(template, match) for match, template in matches if match), None)

    def foreign(self, name: str) -> str | None:
        """The foreign name for one of ours; None where this project has no place for it."""
        matches = ((ours.fullmatch(name), row.foreign) for _, ours, row in self._kept)
        return next((_fill(template, match) for match, template in matches if match), None)


@dataclass(frozen=True)
class Match:
    """How a table reads a set of names: what it keeps, what it drops on purpose, what it does not know."""

    names: dict[str, str]  # foreign -> ours
    dropped: dict[str, int]  # reason -> how many
    unknown: tuple[str, ...]
    prefix: str = ""  # the wrapper's prefix that every wanted name had


def match(names, table: Table) -> Match:
    """Read `names` with `table`, below whichever wrapper prefix all wanted names share; raises nothing."""
    reasons = {name: table.dropped(name) for name in names}
    wanted = [name for name, reason in reasons.items() if reason is None]
    dropped = dict(Counter(reason for reason in reasons.values() if reason is not None))
    attempts = []
    for prefix in _shared_prefixes(wanted):
        found = {name: table.ours(name[len(prefix) :]) for name in wanted}
        known = {name: ours for name, ours in found.items() if ours is not None}
        unknown = tuple(name for name in wanted if found[name] is None)
        attempts.append(Match(known, dropped, unknown, prefix))
    return min(attempts, key=lambda attempt: len(attempt.unknown))


def check_match(result: Match, project: str) -> None:
    """CheckpointError for names that are unknown, that collide, or where nothing is left."""
    if result.unknown:
        raise CheckpointError(_unknown_message(result, project))
    counts = Counter(result.names.values())
    twice = [f"{ours} (from {_sources(result, ours)})" for ours, count in counts.items() if count > 1]
    if twice:
        raise CheckpointError(f"names collide once read as {project}: {listed(twice)}; save each parameter once")
    if not result.names:
        raise CheckpointError(f"no parameter of a VAN is left once read as {project}; dropped: {result.dropped}")


def translate(names, table: Table, project: str) -> dict[str, str]:
    """Our names to `project`'s, in the same order; CheckpointError where it has no place for one."""
    found = {name: table.foreign(name) for name in names}
    homeless = [name for name, foreign in found.items() if foreign is None]
    if homeless:
        fix = "; drop the head with --drop-head" if all(name.startswith("head.") for name in homeless) else ""
        raise CheckpointError(f"{project} has no name for {listed(homeless)}{fix}")
    if len(set(found.values())) < len(found):
        raise CheckpointError(f"two parameters would get the same name in {project}")
    return found


def listed(items, shown: int = SHOWN) -> str:
    """The first few items and how many there are in all, cut to a length that a terminal bears."""
    items = list(items)
    text = ", ".join(printable(item, 120) for item in items[:shown])
    return text if len(items) <= shown else f"{text}, … ({len(items)} in all)"


def _pattern(template: str) -> re.Pattern:
    parts = re.split(r"\{([a-z0-9]+)\}", template)
    groups = (f"(?P<{name}>{FIELDS[name]})" for name in parts[1::2])
    return re.compile("".join(re.escape(text) + next(groups, "") for text in parts[::2]))


def _fill(template: str, found: re.Match) -> str:
    """Put a match's fields into the other side's template; each way of counting stages gives the other."""
    fields = found.groupdict()
    if "stage" in fields:
        fields["stage0"] = str(int(fields["stage"]) - 1)
    elif "stage0" in fields:
        fields["stage"] = str(int(fields["stage0"]) + 1)
    return template.format(**fields)


def _shared_prefixes(names: list[str]) -> list[str]:
    """'' and every chain of wrapper prefixes that all names begin with."""
    prefixes = [""]
    while names and len(prefixes) <= 8:
        longer = (prefixes[-1] + wrapper for wrapper in WRAPPERS)
        shared = next((prefix for prefix in longer if all(name.startswith(prefix) for name in names)), None)
        if shared is None:
            break
        prefixes.append(shared)
    return prefixes


def _sources(result: Match, ours: str) -> str:
    return " and ".join(name for name, target in result.names.items() if target == ours)


def _unknown_message(result: Match, project: str) -> str:
    known = set(result.names)
    for name in result.unknown:
        bare = name
        while any(bare.startswith(wrapper) for wrapper in WRAPPERS):
            bare = bare.split(".", 1)[1]
            if bare in known:
                return f"names collide once a prefix is gone: {listed([name, bare])}; save each parameter once"
    total = len(result.names) + len(result.unknown)
    return (
        f"{len(result.unknown)} of {total} names are not {project}'s: {listed(result.unknown)}; "
        "choose another origin (--origin), or save the VAN's own state dict"
    )
