"""How much more memory this process may have, and the refusal of work that needs more than that.

Jittor does not look at what its allocator returns (mem/allocator/aligned_allocator.cc, var.cc and executor.cc of
1.3.11): where memory ends, an operator writes to address 0, and the process ends without a line. The check comes before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from .errors import MemoryLimitError

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")
NO_LIMIT = 1 << 60  # bytes; cgroups of version 1 write a number near 2^63 where there is no limit


class Limit(NamedTuple):
    """Bytes that may still be taken, and whose limit it is."""

    free: int
    who: str


def check_memory(needed: int, what: str, fix: str) -> None:
    """MemoryLimitError, which names both figures, where `what` needs more bytes than this process may still have."""
    limit = available_memory()
    if limit is not None and needed > limit.free:
        raise MemoryLimitError(
            f"{what} needs {gigabytes(needed)} of memory, and this process may have {gigabytes(limit.free)} more ({limit.who}); {fix}"
        )


def available_memory() -> Limit | None:
    """The tightest of the process's own limits, its control groups' and the machine's; None where none is known."""
    found = [*_of_process(), *_of_cgroups(), *_of_machine()]
    return min(found, key=lambda limit: limit.free, default=None)


def gigabytes(count: int) -> str:
    """Bytes for a message, in units of 10^9."""
    return f"{max(count, 0) / 1e9:.2f} GB"


def _of_process():
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, field in (("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")):
        most, _ = resource.getrlimit(getattr(resource, name))
        if most != resource.RLIM_INFINITY and 0 <= most < NO_LIMIT:
            yield Limit(most - _kilobytes(PROC / "self" / "status").get(field, 0), f"its limit {name}")


def _of_machine():
    """Memory that programs can get without others losing theirs, and swap; without /proc, all that the machine has."""
    rows = _kilobytes(PROC / "meminfo")
    if "MemAvailable" in rows:
        yield Limit(rows["MemAvailable"] + rows.get("SwapFree", 0), "what this machine has free")
    elif "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        yield Limit(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "what this machine has")


def _of_cgroups():
    """Of every control group that this process is in, up to the root, as a container or a batch system sets them."""
    for line in _text(PROC / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield from _upwards(CGROUPS, path, "memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            yield from _upwards(CGROUPS / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def _upwards(root: Path, path: str, limit: str, usage: str, prefix: str):
    """In a container the path may be the host's, of which only the root is seen; the kernel gives back cached files first."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        folder = root.joinpath(*parts[:count])
        most, used = _number(folder / limit), _number(folder / usage)
        if most is not None and used is not None and most < NO_LIMIT:
            rows = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
            cached = sum(int(rows.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
            yield Limit(most - max(used - cached, 0), "its control group's limit")


def _kilobytes(path: Path) -> dict[str, int]:
    """The rows `Name: N kB` of a file of /proc, in bytes."""
    rows = (line.split() for line in _text(path).splitlines() if line.endswith(" kB"))
    return {row[0].rstrip(":"): int(row[1]) << 10 for row in rows if len(row) == 3}


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
