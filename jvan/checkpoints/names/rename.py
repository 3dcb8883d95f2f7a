"""Names from one project to another: an ordered table of rows, and one strict engine that reads it both ways."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from ..._text import printable
from ...errors import CheckpointError

# What a placeholder of a row stands for. Block numbers are written without leading zeros, so that a name has one spelling.
FIELDS = {
    "stage": "[1-4]",
    "stage0": "[0-3]",  # counted from zero
    "block": "0|[1-9][0-9]{0,3}",
    "tensor": "weight|bias",
    "norm": "weight|bias|running_mean|running_var",
    "word": "[a-z0-9_]+",
    "any": ".+",
}
WRAPPERS = ("module.", "model.", "backbone.")  # DataParallel, exporters and trainers, detectors and segmentors
COMPILED = re.compile(r"(?:(?<=\.)|^)_orig_mod\.")  # torch.compile puts one before whatever it compiled
SHOWN = 10


@dataclass(frozen=True)
class Row:
    """A foreign name and ours, both with placeholders from FIELDS; `ours` None drops the name for `reason`."""

    foreign: str
    ours: str | None
    reason: str = ""


class Table:
    """Ordered rows, each matched whole; the first match wins. The inverse is the same rows read from the right.

    `anchor` is a name of ours that every network has once: wherever it lies in a file, a network may begin.
    """

    def __init__(self, rows, anchor: str | None = None):
        self._kept = [(_pattern(row.foreign), _pattern(row.ours), row) for row in rows if row.ours is not None]
        wrapped = "(?:" + "|".join(re.escape(prefix) for prefix in WRAPPERS) + ")*"
        self._dropped = [(re.compile(wrapped + _pattern(row.foreign).pattern), row) for row in rows if row.ours is None]
        self.anchor = self.foreign(anchor) if anchor else None

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
    prefix: str = ""  # what every wanted name began with
    networks: tuple[str, ...] = ()  # where networks may begin


def match(names, table: Table) -> Match:
    """Read `names` with `table`, below the prefix that leaves the fewest unknown; raises nothing."""
    bare = {name: uncompiled(name) for name in names}
    reasons = {name: table.dropped(plain) for name, plain in bare.items()}
    wanted = {name: plain for name, plain in bare.items() if reasons[name] is None}
    dropped = Counter(reason for reason in reasons.values() if reason is not None)
    networks = _networks(wanted.values(), table)
    prefixes = dict.fromkeys(_shared_prefixes(list(wanted.values())) + networks[:1] * (len(networks) == 1))
    attempts = [_read_below(prefix, wanted, table, dropped) for prefix in prefixes]
    best = min(attempts, key=lambda attempt: (len(attempt.unknown), -len(attempt.names)))
    return replace(best, networks=tuple(networks))


def below(names, prefix: str) -> tuple[dict[str, str], int]:
    """The names that begin with `prefix`, without it -> as they are, and how many others there are.

    A module's name needs no dot at its end. CheckpointError if there are none, or two of one name.
    """
    bare = {name: uncompiled(name) for name in names}
    prefix = uncompiled(prefix)
    if any(name.startswith(f"{prefix}.") for name in bare.values()):
        prefix += "."
    found = [(bare_name[len(prefix) :], name) for name, bare_name in bare.items() if bare_name.startswith(prefix)]
    if not found:
        starts = dict.fromkeys(name.split(".")[0] for name in bare.values())
        raise CheckpointError(
            f"no name begins with {printable(prefix, 120)} (--prefix); they begin with {listed(starts)}"
        )
    kept = dict(found)
    if len(kept) < len(found):
        twice = next(name for name, source in found if kept[name] != source)
        raise CheckpointError(f"two tensors are called {printable(twice, 120)} once a prefix is gone; save each once")
    return kept, len(bare) - len(kept)


def uncompiled(name: str) -> str:
    """A name without the marks that torch.compile puts into it."""
    return COMPILED.sub("", name) if "_orig_mod." in name else name


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


def _read_below(prefix: str, wanted: dict[str, str], table: Table, dropped: Counter) -> Match:
    found = {name: table.ours(plain[len(prefix) :]) for name, plain in wanted.items() if plain.startswith(prefix)}
    known = {name: ours for name, ours in found.items() if ours is not None}
    dropped, unknown = Counter(dropped), []
    for name in (name for name in wanted if name not in known):
        inside = _inside(wanted[name], prefix)
        reason = table.dropped(inside) if inside != wanted[name] else None
        if reason is None:
            unknown.append(name)
        else:
            dropped[reason] += 1
    return Match(known, dict(dropped), tuple(unknown), prefix)


def _inside(name: str, prefix: str) -> str:
    """A name without those modules of the prefix that it shares: a head lies beside the backbone, in what wraps both."""
    for module in prefix.split("."):
        if not module or not name.startswith(f"{module}."):
            break
        name = name[len(module) + 1 :]
    return name


def _networks(names, table: Table) -> list[str]:
    """The prefixes below which the file has the anchor."""
    if table.anchor is None:
        return []
    ends = f".{table.anchor}"
    return [name[: len(name) - len(table.anchor)] for name in names if name == table.anchor or name.endswith(ends)]


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
    if len(result.networks) > 1:
        places = listed(place or "(no prefix)" for place in result.networks)
        return f"networks lie below several prefixes: {places}; choose one with --prefix"
    fix = "choose another origin (--origin), or save the VAN's own state dict"
    if result.prefix and not any(uncompiled(name).startswith(result.prefix) for name in result.unknown):
        fix = f"--prefix {printable(result.prefix, 120)} leaves them out"
    return f"{len(result.unknown)} of {total} names are not {project}'s: {listed(result.unknown)}; {fix}"
