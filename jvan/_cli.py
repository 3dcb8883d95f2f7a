"""What every command shares: one-line errors, exit statuses, the device option."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import signal
import sys
import tempfile

from .errors import JittorRebuilt, JvanError

QUIET = "log_silent"  # Jittor's own switch
RESTARTED = "JVAN_RESTARTED"
PATIENCE = 30  # seconds


def command(main):
    """Wrap `main(argv) -> int | None`: a failed job is one line on stderr and status 1, Ctrl-C is 130.

    Bad usage ends in argparse with status 2 by itself. Jittor's own log is silenced unless the user
    asked for it with `log_silent=0`.
    """

    @functools.wraps(main)
    def guarded(argv=None) -> int:
        os.environ.setdefault(QUIET, "1")
        _open_closed_streams()
        try:
            with _native_stderr_aside():
                status = main(argv) or 0
            sys.stdout.flush()
            return status
        except BrokenPipeError:  # `jvan … | head`: the reader has gone, which is no error of ours
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except KeyboardInterrupt:
            print(f"jvan {_name(main)}: interrupted", file=sys.stderr)
            return 130
        except JittorRebuilt as error:
            _restart(main, sys.argv[1:] if argv is None else argv, error)
            return 1
        except (JvanError, OSError) as error:
            if not (getattr(error, "common", False) and int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))):
                print(f"jvan {_name(main)}: {one_line(error)}", file=sys.stderr, flush=True)
            _end_for_all()
            return 1
        except Exception:
            _end_for_all()
            raise
        finally:
            _end_compilers()

    return guarded


def _end_for_all() -> None:
    """One of several processes failed: the others may wait for it for ever, and MPI, at its end, for them.

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
    """Run the command once more in place of this process: what Jittor rebuilt is only used by a new one."""
    print(f"jvan {_name(main)}: {one_line(error)}", file=sys.stderr, flush=True)
    if RESTARTED not in os.environ:
        os.environ[RESTARTED] = "1"
        from .children import become_python  # 8 ms, and only here

        become_python(f"from jvan.{_module(main)} import main\nsys.exit(main(sys.argv[1:]))", *argv)


@contextlib.contextmanager
def _native_stderr_aside():
    """Keep what C++ code and compilers write on standard error out of a command's output; Python's own goes on.

    Jittor reports every compilation there, whatever `log_silent` says. If the command ends in an
    unforeseen exception, the last of it is shown, since it may hold the compiler's reason.
    """
    if os.environ[QUIET] != "1" or sys.stderr is not sys.__stderr__ or sys.stderr.fileno() != 2:
        yield  # somebody else, such as a test, holds the stream
        return
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as aside, open(terminal, "w", buffering=1, encoding=sys.stderr.encoding) as python:
        sys.stderr = python
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except (JvanError, OSError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            aside.seek(max(0, aside.tell() - 4000))
            python.write(aside.read().decode("utf-8", "replace"))
            raise
        finally:
            os.dup2(terminal, 2)
            sys.stderr = sys.__stderr__


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks; OSError as `path: reason`."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def positive(text: str) -> int:
    """An argument of a parser: a whole number from 1 on."""
    return _whole(text, 1, "a positive integer")


def not_negative(text: str) -> int:
    """An argument of a parser: a whole number from 0 on."""
    return _whole(text, 0, "a whole number")


def _whole(text: str, least: int, what: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return int(text)


def add_device(parser) -> None:
    """--device."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (default: auto)"
    )


def add_dtype(parser) -> None:
    """--dtype."""
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        default="float32",
        help="what is multiplied; float16 on GPUs alone (default: float32)",
    )


def _name(main) -> str:
    return _module(main).replace("_", "-")


def _module(main) -> str:
    return os.path.splitext(os.path.basename(main.__code__.co_filename))[0]
