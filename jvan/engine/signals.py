"""SIGTERM and Ctrl-C as a request that the loop meets between two steps."""

from __future__ import annotations

import signal


class StopRequest:
    """Inside `with`, a first signal is remembered in `.signal`, a second one ends the process as usual."""

    def __init__(self, tell):
        self.signal, self._tell = 0, tell

    def __enter__(self) -> StopRequest:
        # Jittor's own handlers end the process at once, at SIGCHLD too, which a dying worker sends.
        wanted = {signal.SIGINT: self._handle, signal.SIGTERM: self._handle, signal.SIGCHLD: signal.SIG_DFL}
        self._before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number, frame) -> None:
        if self.signal:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number
        self._tell("stopping after this step; what was learnt is saved first")
