"""Jittor does not outlive a fork: its threads are not in the child, where the first operator waits for them without end."""

from __future__ import annotations

import os
import sys

from ..errors import JvanError

_forked = False  # off a process that had imported Jittor


def check_not_forked() -> None:
    """JvanError in a process that was forked off one that had imported Jittor; what needs no Jittor works there."""
    if _forked:
        raise JvanError(
            "this process was forked off one that had imported Jittor, so that a network would wait here without end; "
            'start it by multiprocessing\'s "spawn", or import Jittor and make networks only after the fork'
        )


def _note() -> None:
    global _forked
    _forked = "jittor" in sys.modules


os.register_at_fork(after_in_child=_note)
