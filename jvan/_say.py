"""The one way by which jvan prints, draws a bar and warns: here every line is made fit for a terminal, once."""

from __future__ import annotations

import io
import sys
import warnings
from contextlib import contextmanager, nullcontext

from ._stop import whole
from ._text import printable

OURS = "jvan: "  # what lines begin with that belong to no command
LONGEST = 5000  # characters of a line; a path may have 4096


class Said:
    """Whether anything was printed on standard output since a command began."""

    anything = False


def show(*lines: str) -> None:
    """Print lines on standard output, at once."""
    _print(sys.stdout, lines)


def tell(*lines: str) -> None:
    """Print lines on standard error, at once."""
    _print(sys.stderr, lines)


def say(line: str) -> None:
    """`tell` for what knows no command: the line begins with jvan's own name."""
    tell(f"{OURS}{line}")


def show_json(document, indent: int | None = None) -> None:
    """Print one JSON document: ASCII alone, so that no name in it reaches a terminal, and any output can hold it."""
    import json  # 8 ms, which `import jvan` can do without

    show_ascii(json.dumps(document, indent=indent) + "\n", at_once=True)


def show_ascii(text: str, at_once: bool = False) -> None:
    """Print JSON text as it is; an interruption waits until all of it is handed over."""
    _write(sys.stdout, text, at_once)


def warn(message: str, kind: type[Warning] = UserWarning) -> None:
    """`warnings.warn` about the line outside jvan that led here, however many of jvan's own calls lie between."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_between(frame):
        frame = frame.f_back
    names = frame.f_globals
    registry = names.setdefault("__warningregistry__", {})
    where = (frame.f_code.co_filename, frame.f_lineno, names.get("__name__", "?"), registry)
    warnings.warn_explicit(printable(message), kind, *where)


def _is_between(frame) -> bool:
    """Whether a call is jvan's own, or Python's machinery of imports."""
    name = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] == "jvan" or name.startswith("importlib._bootstrap")


@contextmanager
def warnings_told(tell):
    """Inside, a UserWarning is one line of a command: `tell("warning: …")`, each time it comes."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: tell(f"warning: {message}")
        yield


def bar(iterable=None, *, unit: str, total: int | None = None, done: int = 0, name: str = "", **options):
    """A progress bar on standard error where that is a terminal, which vanishes at its end."""
    from tqdm import tqdm

    return tqdm(
        iterable, desc=printable(name) or None, total=total, initial=done, unit=unit, file=sys.stderr, leave=False,
        disable=not sys.stderr.isatty(), **options,
    )  # fmt: skip


def _print(stream, lines) -> None:
    _write(stream, "".join(f"{printable(line, LONGEST)}\n" for line in lines), at_once=True)


def _write(stream, text: str, at_once: bool) -> None:
    Said.anything = Said.anything or stream is sys.stdout
    with whole, _bars_aside(stream):
        raw = getattr(stream, "buffer", None)
        if not isinstance(raw, io.RawIOBase):
            print(text, end="", file=stream, flush=at_once)
            return
        stream.flush()
        data = memoryview(text.encode(stream.encoding, stream.errors))
        while data:  # with PYTHONUNBUFFERED Python forgets what a write that a signal interrupts has left
            data = data[raw.write(data) or 0 :]


def _bars_aside(stream):
    """While something is printed the bars are taken away, if there are any."""
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)
    return nullcontext() if tqdm is None else tqdm.external_write_mode(file=stream)
