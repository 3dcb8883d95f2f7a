"""Ctrl-C and SIGTERM in a command: the first one ends it in order, a second one at once, and none cuts a write in two."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager

from .errors import JittorUnavailable

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


class _Listener:
    """The handler of a command's signals, in the process that installed it."""

    def __init__(self, numbers):
        self.numbers, self.process, self.met = numbers, os.getpid(), None

    def listen(self) -> None:
        for number in self.numbers if self.met is None else ():
            signal.signal(number, self)

    def __call__(self, number, frame) -> None:
        if os.getpid() != self.process:
            _end_child(number)
            return
        self.met = number
        for each in self.numbers:
            signal.signal(each, signal.SIG_DFL)
        forget_children()
        if not whole.depth:
            raise Stopped(number)
        whole.waiting = number


whole = _Whole()
_listeners: list[_Listener] = []


@contextmanager
def stops_in_order():
    """Inside, a first SIGINT or SIGTERM raises Stopped; a second one has its default action, which ends the process.

    What a caller has installed, or ignores as `nohup` does, stays. In threads other than the main one nothing changes.
    """
    mine = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS if mine}
    listener = _Listener([number for number, usual in zip(SIGNALS, USUAL) if mine and before[number] == usual])
    _listeners.append(listener)
    listener.listen()
    try:
        yield
    finally:
        _listeners.remove(listener)
        for number in listener.numbers:
            signal.signal(number, before[number])


def listen_again() -> None:
    """After Jittor has put its own handlers in the places of a command's; outside of a command they stay.

    Its handler of SIGCHLD ends the process, without a word, when a compiler dies, as by Ctrl-C in a terminal.
    """
    for listener in _listeners:
        listener.listen()
    if _listeners and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, _look_after_compilers)


def _look_after_compilers(number, frame) -> None:
    """JvanError where one of the processes was killed that compile for Jittor, which would wait for its answer without end."""
    pool = getattr(sys.modules.get("jittor_utils"), "p", None)
    codes = [each.exitcode for each in getattr(pool, "_pool", ()) if each._parent_pid == os.getpid()]
    if -signal.SIGKILL in codes:
        raise JittorUnavailable(
            "a process that compiles for Jittor was killed, perhaps for want of memory; free some and start again"
        )


def end_if_met() -> None:
    """Raise Stopped once more, where it may have been caught by somebody who catches everything, as Jittor's import does."""
    for listener in _listeners:
        if listener.met is not None:
            raise Stopped(listener.met)


def forget_children() -> None:
    """What ends now may kill its children, at whose death Jittor, once imported, would end this process."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, unheeded)


def unheeded(number, frame) -> None:
    """A handler that does nothing. For a signal that comes while SIG_DFL is put in its place Python prints a traceback."""


def _end_child(number: int) -> None:
    """A process that was forked off, such as Jittor's compilers, ends by SIGTERM; Ctrl-C reaches its parent, which ends it.

    Jittor would take its death by Ctrl-C for want of memory, and end the parent at once.
    """
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
