"""What a step of `python -m tools.gpu_check` is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jvan.variants import VANConfig

# The network of a dry run.
TINY = VANConfig((8, 16, 24, 32), (1, 1, 1, 1), num_classes=10)


@dataclass(frozen=True)
class Task:
    """`end`: the time.monotonic() by which the step must be over; `save`: keeps what it has found so far, should it be killed;
    `earlier`: what a run before found that left cases undone, else empty."""

    dry_run: bool
    data: Path | None = None
    end: float = math.inf
    save: Callable[[dict], None] = lambda found: None
    earlier: dict = field(default_factory=dict)

    @property
    def use_cuda(self) -> int:
        """Jittor's flag: a dry run computes on the CPU, an emulator in the GPU's place."""
        return int(not self.dry_run)
