"""Names and shapes that weights_convert/record_names.py took from the original projects."""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path

NAMES = Path(__file__).parents[1] / "golden" / "names"
ARCHS = sorted(path.name[: -len(".json.gz")] for path in NAMES.glob("*.json.gz"))


@functools.cache
def recorded(arch: str) -> dict:
    return json.loads(gzip.decompress((NAMES / f"{arch}.json.gz").read_bytes()))


def official_shapes(arch: str) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in recorded(arch)["official"].items()}


def learned(names) -> list[str]:
    """All but BatchNorm's counters."""
    return [name for name in names if not name.endswith("num_batches_tracked")]
