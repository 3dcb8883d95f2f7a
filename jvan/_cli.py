"""What every command shares: one-line errors, exit statuses, streams."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import sys
import tempfile

from ._say import Said, show_json, tell
from ._stop import stops_in_order
from .errors import JittorRebuilt, JvanError

QUIET = "log_silent"  # Jittor's own switch
RESTARTED = "JVAN_RESTARTED"
PATIENCE = 30  # seconds
RESERVE = 4 << 20  # bytes, of which the kernel gives none before they are written
MORE_MEMORY = "close other programs, raise this process's limit (ulimit -v, its container's), or give it less at a time"


def command(main):
    """Wrap `main(argv) -> int | None`: a failed job is one line on stderr and status 1, Ctrl-C is 130, SIGTERM 143.

    With --json a job that fails before it has printed anything prints {"error": the line}, so that a program always
    reads one document. Bad usage ends in argparse with status 2. Jittor's own log is silenced unless the user
    asked for it with `log_silent=0`.
    """

    @functools.wraps(main)
    def guarded(argv=None) -> int:
        os.environ.setdefault(QUIET, "1")
        _open_closed_streams()
        Said.anything = False
        answers = "--json" in (sys.argv[1:] if argv is None else argv)
        try:
            return _run(main, argv)
        except BrokenPipeError:  # `jvan … | head`: the reader has gone, which is no error of ours
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except KeyboardInterrupt as stop:
            return _stopped(main, getattr(stop, "number", signal.SIGINT), answers)
        except JittorRebuilt as error:
            _restart(main, sys.argv[1:] if argv is None else argv, error)
            _answer(one_line(error), answers)
            return 1
        except (JvanError, OSError, MemoryError) as error:
            return _failed(main, error, answers)
        except Exception:
            if sys.excepthook is sys.__excepthook__:
                sys.excepthook = _show_traceback
            _end_for_all()
            raise
        finally:
            _end_compilers()

    return guarded


def _run(main, argv) -> int:
    reserve = [bytes(RESERVE)]
    with stops_in_order(), _native_stderr_aside():
        try:
            status = main(argv) or 0
        except MemoryError:
            reserve.clear()  # the frames still hold what the job had, and to say so needs a little
            raise
        sys.stdout.flush()
        return status


def _stopped(main, number: int, answers: bool) -> int:
    how = "terminated" if number == signal.SIGTERM else "interrupted"
    tell(f"{_name(main)}: {how}")
    _answer(how, answers)
    return 128 + number


def _failed(main, error: BaseException, answers: bool) -> int:
    if not (getattr(error, "raised_by_all", False) and int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))):
        tell(f"{_name(main)}: {one_line(error)}")
        _answer(one_line(error), answers)
    _end_for_all()
    return 1


def _answer(error: str, answers: bool) -> None:
    """The document of --json for a job that failed before it had printed any."""
    if answers and not Said.anything:
        with contextlib.suppress(OSError):  # nobody reads it any more, or the disk is full: the line was told
            show_json({"error": error})


def _end_for_all() -> None:
    """One of several processes failed: the others may wait for it forever, and MPI, at its end, for them.

    If they have not ended after half a minute, which they use to save, this process ends by a signal, and mpirun then ends them.
    """
    if int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1")) > 1:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)


def _end_compilers() -> None:
    """Without it a Ctrl-C, which a terminal sends to Jittor's pool as well, leaves Python waiting for a dead one's lock."""
    if "jittor_utils" in sys.modules:
        from .engine.signals import end_compilers

        end_compilers()


def _open_closed_streams() -> None:
    """A job without a terminal may have no standard streams at all; what it would print then goes nowhere.

    What an encoding does not have, such as a file's name that is no UTF-8, is printed as an escape.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")


def _restart(main, argv, error) -> None:
    """Run the command once more instead of this process: what Jittor rebuilt is only used by a new one."""
    tell(f"{_name(main)}: {one_line(error)}")
    with contextlib.suppress(OSError, ValueError):  # `jvan` around `jvan predict` may keep what C++ writes aside
        os.dup2(sys.stderr.fileno(), 2)
    if RESTARTED not in os.environ:
        os.environ[RESTARTED] = "1"
        from .children import become_python  # 8 ms, and only here

        become_python(f"from {_module(main)} import main\nsys.exit(main(sys.argv[1:]))", *argv)


@contextlib.contextmanager
def _native_stderr_aside():
    """Keep what C++ code and compilers write on standard error out of a command's output; Python's own goes on.

    Jittor reports every compilation there, whatever `log_silent` says. If the command ends in an
    unforeseen exception, the last of it is shown, since it may hold the compiler's reason.
    """
    if os.environ[QUIET] != "1" or sys.stderr is not sys.__stderr__ or sys.stderr.fileno() != 2:
        yield  # somebody else, such as a test, holds the stream
        return
    terminal, how = os.dup(2), {"encoding": sys.stderr.encoding, "errors": "backslashreplace"}
    with tempfile.TemporaryFile() as aside, open(terminal, "w", buffering=1, **how) as python:
        sys.stderr = python
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except (JvanError, OSError, MemoryError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            aside.seek(max(0, aside.tell() - 4000))
            tell(*_plain_lines(aside.read().decode("utf-8", "replace")))
            raise
        finally:
            os.dup2(terminal, 2)
            sys.stderr = sys.__stderr__


def _plain_lines(text: str) -> list[str]:
    """What Jittor and compilers wrote, without their colours; they end lines that are to be overwritten with "\\r"."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;]*m", "", text).strip())


def _show_traceback(kind, error, trace) -> None:
    """`sys.excepthook` for what nobody foresaw: its message may hold words from a file."""
    import traceback

    tell(*"".join(traceback.format_exception(kind, error, trace)).rstrip("\n").split("\n"))


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks; OSError as `path: reason`."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = str(error) if isinstance(error, JvanError) else " ".join(str(error).split())
    if isinstance(error, MemoryError) and not isinstance(error, JvanError):
        return f"not enough memory{f' ({text})' if text else ''}; {MORE_MEMORY}"
    return text or type(error).__name__


def _name(main) -> str:
    name = _module(main).rpartition(".")[2]
    return "jvan" if name == "__main__" else f"jvan {name.replace('_', '-')}"


def _module(main) -> str:
    """`jvan.predict`, whatever name Python runs it by; a tool of the checkout has a name beside jvan's."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    file = os.path.relpath(os.path.abspath(main.__code__.co_filename), root)
    return os.path.splitext(file)[0].replace(os.sep, ".")
