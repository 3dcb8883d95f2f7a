"""Ctrl-C and SIGTERM in a command: the first one ends it in order, a second one at once, and none cuts a write in two."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
USUAL = (signal.default_int_handler, signal.SIG_DFL)  # what Python has for them where nobody asked for anything else


class Stopped(KeyboardInterrupt):
    """The command was asked to end, by the signal `number`."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


class _Whole:
    """`with whole:` is left before a signal is met that came inside; it may be entered again inside."""

    def __init__(self):
        self.depth, self.waiting = 0, None

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_) -> None:
        self.depth -= 1
        if not self.depth and self.waiting is not None:
            number, self.waiting = self.waiting, None
            raise Stopped(number)


whole = _Whole()


@contextmanager
def stops_in_order():
    """Inside, a first SIGINT or SIGTERM raises Stopped; a second one has its default action, which ends the process.

    What a caller has installed, or ignores as `nohup` does, stays. In threads other than the main one nothing changes.
    """
    mine = threading.current_thread() is threading.main_thread()
    numbers = [n for n, usual in zip(SIGNALS, USUAL) if mine and signal.getsignal(n) == usual]
    process = os.getpid()

    def met(number, frame):
        if os.getpid() != process:  # a child that was forked off, such as Jittor's compilers: its parent ends it
            _end_child(number)
            return
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        if not whole.depth:
            raise Stopped(number)
        whole.waiting = number

    before = {number: signal.signal(number, met) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_child(number: int) -> None:
    """By SIGTERM; a terminal's Ctrl-C reaches the parent, too, which would take a compiler's death for want of memory."""
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
