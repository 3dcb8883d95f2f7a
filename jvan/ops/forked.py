"""Jittor does not outlive a fork: its threads and OpenMP's are not in the child, which would wait for them without end."""

from __future__ import annotations

import os

from ..errors import JvanError

_home = None  # the process in which the first network was made


def check_not_forked() -> None:
    """JvanError in a process that was forked off one that has made a network; what needs no Jittor works there."""
    global _home
    process = os.getpid()
    if _home is None:
        _home = process
    elif _home != process:
        raise JvanError(
            f"this process ({process}) was forked off one that had made a network ({_home}), where Jittor would wait without "
            'end; start it by multiprocessing\'s "spawn" and make the network there, or make none before the fork'
        )
