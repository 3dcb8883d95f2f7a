"""What a fresh Python says: Jittor's start, or a device, is tried where this process cannot be hurt."""

from __future__ import annotations

import os
import signal
import tempfile
import threading

from .. import children
from .._say import OURS, say


def run_child(code: str, timeout: float) -> tuple[int | None, str, str]:
    """(exit status, stdout, stderr) of a Python that runs `code`; status None if it took too long.

    jvan's own lines on stderr are passed on at once.
    """
    environment = {**os.environ, "log_silent": "1"}
    with tempfile.TemporaryFile("w+") as output:
        child = children.start_python(
            code,
            environment=environment,
            stdin=children.DEVNULL,
            stdout=output,
            stderr=children.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        late = threading.Event()
        timer = threading.Timer(timeout, lambda: (late.set(), _kill(child)))
        timer.start()
        try:
            lines = []
            for line in child.stderr:
                lines.append(line)
                if line.startswith(OURS):
                    say(line.removeprefix(OURS).rstrip("\n"))
            status = child.wait()
        finally:
            timer.cancel()
            if child.poll() is None:  # Ctrl-C: compilers are children of the child
                _kill(child)
                child.wait()
            child.stderr.close()
        output.seek(0)
        return None if late.is_set() else status, output.read(), "".join(lines)


def _kill(child: children.Child) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
