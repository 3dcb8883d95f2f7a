"""SIGTERM and Ctrl-C as a request that the loop meets between two steps."""

from __future__ import annotations

import atexit
import os
import signal
from contextlib import contextmanager, suppress

from .._stop import Stopped, forget_children, unheeded
from ..errors import JvanError


@contextmanager
def interrupts_held():
    """Keep Ctrl-C waiting; a process that is forked inside never gets it.

    Importing Jittor starts the pool that compiles its operators. A terminal sends Ctrl-C to those processes as well,
    and if one of them dies of it, Python waits at its end for a lock that the dead one holds.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopRequest:
    """Inside `with`, a first signal is remembered in `.signal`, a second one ends the process as usual."""

    def __init__(self, tell):
        self.signal, self._tell, self._process = 0, tell, os.getpid()

    def __enter__(self) -> StopRequest:
        # Jittor's own handlers end the process at once, at SIGCHLD too, which a dying worker sends.
        wanted = {signal.SIGINT: self._handle, signal.SIGTERM: self._handle, signal.SIGCHLD: unheeded}
        self._before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Stopped in the place of Jittor's long error where the signal, sent to the whole group, ended a compiler of its."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self.signal and isinstance(error, RuntimeError) and not isinstance(error, JvanError):
            raise Stopped(self.signal) from error

    def _handle(self, number, frame) -> None:
        forked = os.getpid() != self._process
        if self.signal or (forked and number == signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if not forked:
            self.signal = number
            with suppress(RuntimeError):  # the signal came while a line was being written
                self._tell("stopping after this step; what was learnt is saved first")


def end_compilers() -> None:
    """End the pool that compiles Jittor's operators, without its locks.

    A SIGTERM to the whole group (`timeout`, systemd, Slurm) ends those processes, too; the dead one holds a lock
    for which Python, at its end, would wait forever.
    """
    import jittor_utils

    pool = getattr(jittor_utils, "p", None)
    if pool is None:
        return
    forget_children()
    atexit.unregister(jittor_utils.pool_cleanup)
    pool._terminate.cancel()
    pool._state = pool._worker_handler._state = "TERMINATE"  # it would start others
    pool._change_notifier.put(None)
    pool._worker_handler.join()
    for process in pool._pool:
        process.kill()
    jittor_utils.pool_size = 0  # a later compilation has a new pool
    del jittor_utils.p
