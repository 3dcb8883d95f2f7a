"""The benchmark's side of the protocol: a worker as a process that is asked, answers in time, and is surely ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import time
from pathlib import Path

from .. import children
from ..errors import JvanError


class WorkerLost(JvanError):
    """An engine's process died, answered an error, or did not answer in time."""


class Worker:
    """An interpreter that runs one engine's script; suspended except while it answers, so that idle threads burn no core.

    `log` receives what it writes to standard error. Raises WorkerLost where the interpreter does not start.
    """

    def __init__(self, python: str, script: Path, log: Path, environment: dict):
        _forget_jittors_handler()
        with open(log, "wb") as errors:
            try:
                # A process group of its own: Ctrl-C reaches the benchmark alone, which then ends them all, and
                # where the benchmark is killed, the kernel ends a group whose members are stopped (SIGHUP).
                self.process = children.start_script(
                    python, script, {**os.environ, **environment},
                    stdin=children.PIPE, stdout=children.PIPE, stderr=errors, preexec_fn=os.setpgrp,
                )  # fmt: skip
            except OSError as error:
                raise WorkerLost(f"{python}: {error.strerror}") from None
        self.log, self._buffer, self._closed = log, b"", False

    def ask(self, request: dict, timeout: float) -> dict:
        """The answer to `request`; WorkerLost, and the process is ended, where there is none within `timeout` seconds."""
        self.send(request)
        return self.answer(timeout)

    def send(self, request: dict) -> None:
        """Let it begin with `request`, whose `answer` is to be asked for."""
        self._signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # the answer tells how it died
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def answer(self, timeout: float) -> dict:
        """What `ask` gives, of the request that was sent; the process is suspended then."""
        try:
            answer = self._answer(timeout)
            self._signal(signal.SIGSTOP)
        except WorkerLost:
            self.close()
            raise
        if "error" in answer:
            self.close()
            raise WorkerLost(answer["error"])
        return answer

    def close(self) -> None:
        """End the process and its children, without regret."""
        if self._closed:
            return  # the number may be another process's by now
        self._closed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):  # what was not flushed has no reader
                pipe.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _answer(self, timeout: float) -> dict:
        line = self._line(time.monotonic() + timeout)
        if line is None:
            raise WorkerLost(f"no answer within {round(timeout, 1):g} s (--timeout)")
        if not line:
            raise WorkerLost(self._how_it_ended())
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise WorkerLost(f"answered {line[:80]!r} instead of a JSON object")
        return answer

    def _line(self, deadline: float) -> bytes | None:
        """The next line; empty at the end of the output, None at the deadline."""
        pipe = self.process.stdout.fileno()
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            read = os.read(pipe, 1 << 16)
            if not read:
                return b""
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _how_it_ended(self) -> str:
        with contextlib.suppress(children.TimeoutExpired):
            status = self.process.wait(10)
            if status == -signal.SIGKILL:
                return "was killed (signal 9): out of memory?"
            how = f"by signal {-status}" if status < 0 else f"with status {status}"
            return " ".join(f"ended {how}: {self._last_words()}".rstrip(": ").split())
        return "closed its output"

    def _last_words(self) -> str:
        text = re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text(encoding="utf-8", errors="replace"))
        lines = ("".join(c for c in line if c.isprintable()).strip() for line in reversed(text.split("\n")))
        return next((line[:300] for line in lines if line), "")

    def _signal(self, number: int) -> None:
        # To the worker alone: Jittor ends its process when one of its compiling children is stopped.
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


def _forget_jittors_handler() -> None:
    """Jittor, where this process has imported it, would end the process at the sight of a stopped or killed child."""
    with contextlib.suppress(ValueError):  # not in the main thread, which alone may do so
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
