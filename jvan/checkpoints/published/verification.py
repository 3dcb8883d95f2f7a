"""How far a file is known to be the published one, and what is said of that."""

from __future__ import annotations

from pathlib import Path

from ..._say import say
from .catalogue import Entry
from .hash_record import Identity, Record, first_of, records_of, remember, remember_first


def known_of(entry: Entry, path: Path, now: Identity | None) -> list[Record]:
    """What is noted of this file, and of the first that ever came for the entry."""
    return records_of(path, now) + ([] if entry.sha256 else first_of(entry.name))


def contradictions(entry: Entry, digest: str, announced: str | None = None) -> list[tuple[str, str]]:
    """(who, hash or its beginning) of those who publish another hash than `digest`."""
    wanted = {"the catalogue": entry.sha256, "the file's name": entry.sha256_prefix, "the hub": announced}
    return [(who, value) for who, value in wanted.items() if value and not digest.startswith(value)]


def others(entry: Entry, digest: str, known: list[Record]) -> list[Record]:
    """The notes of another hash; where the catalogue has the whole hash they do not matter."""
    return [] if entry.sha256 else [record for record in known if record.sha256 != digest]


def places(records: list[Record]) -> str:
    """The notes to delete."""
    return " and ".join(str(record.place) for record in records)


def is_proven(entry: Entry, digest: str, known: list[Record]) -> bool:
    """Whether the catalogue has this whole hash, or the hub announced it when the file first came."""
    return entry.sha256 == digest or any(record.proven for record in known if record.sha256 == digest)


def settle(entry: Entry, path: Path, digest: str, proven: bool, identity: Identity | None) -> None:
    """Note what a new file was found to be, and say how far it could be verified."""
    if identity is not None:
        remember(path, digest, proven, identity)
    if entry.sha256 is None:
        remember_first(entry.name, digest, proven)
    if entry.sha256_prefix and not proven:
        say(f"{entry.name}: eight digits of its sha256 are published, and they match; the whole one is {digest}")
    say_unverified(entry, digest, proven)


def say_unverified(entry: Entry, digest: str, proven: bool) -> None:
    """A line, at each start, where nobody publishes any of the hash."""
    if not (proven or entry.sha256_prefix):
        say(
            f"{entry.name} is unverified: neither the catalogue nor the hub gives its hash; the file's sha256 is {digest}"
        )
