"""What this process may have of the machine: memory, and room on a disk."""

from __future__ import annotations

import contextlib
import os
import re
import shutil

KEPT = 256 << 20  # bytes of a disk that stay free; of a small one a twentieth
UNLIMITED = 1 << 62


def memory_allowed() -> int:
    """Bytes that this process may still take, by its own limit, its control groups' and what the machine has."""
    return max(0, min(_below_own_limit(), _group_limit(), _available()))


def disk_allowed(folder) -> int:
    """Bytes that may be written into a folder before its disk is as full as it may become; negative where it is fuller."""
    disk = shutil.disk_usage(folder)
    return disk.free - min(KEPT, disk.total // 20)


def _below_own_limit() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return UNLIMITED
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return UNLIMITED
    pages = _read("/proc/self/statm").split()
    return limit - (int(pages[0]) * os.sysconf("SC_PAGE_SIZE") if pages else 0)


def _group_limit() -> int:
    """The lowest limit of the groups above; what they use already is mostly cached files, which make room."""
    limits = [UNLIMITED]
    for line in _read("/proc/self/cgroup").splitlines():
        _, kinds, group = line.split(":", 2)
        if "memory" not in kinds.split(",") and kinds:
            continue
        root, name = ("memory/", "memory.limit_in_bytes") if kinds else ("", "memory.max")
        parts = group.strip("/").split("/")
        for depth in range(len(parts) + 1):
            text = _read(os.path.join("/sys/fs/cgroup", root, *parts[:depth], name)).strip()
            limits += [int(text)] if text.isdigit() else []
    return min(limits)


def _available() -> int:
    found = re.search(r"^MemAvailable:\s*(\d+) kB", _read("/proc/meminfo"), re.M)
    return int(found[1]) << 10 if found else UNLIMITED


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
        return file.read()
    return ""
