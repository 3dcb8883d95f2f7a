"""The one way by which jvan prints, draws a bar and warns: here every line is made fit for a terminal, once."""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import nullcontext

from ._stop import whole
from ._text import printable

LONGEST = 5000  # characters of a line; a path may have 4096


def show(*lines: str) -> None:
    """Print lines on standard output, at once."""
    _print(sys.stdout, lines)


def tell(*lines: str) -> None:
    """Print lines on standard error, at once."""
    _print(sys.stderr, lines)


def show_json(document, indent: int | None = None) -> None:
    """Print one JSON document: ASCII alone, so that no name in it reaches a terminal, and any output can hold it."""
    show_ascii(json.dumps(document, indent=indent) + "\n", at_once=True)


def show_ascii(text: str, at_once: bool = False) -> None:
    """Print JSON text as it is; an interruption waits until all of it is handed over."""
    with whole, _bars_aside(sys.stdout):
        print(text, end="", flush=at_once)


def warn(message: str, stacklevel: int = 1) -> None:
    """`warnings.warn`, whose `stacklevel` 1 is the caller."""
    warnings.warn(printable(message), stacklevel=stacklevel + 1)


def bar(iterable=None, *, unit: str, total: int | None = None, done: int = 0, name: str = "", **options):
    """A progress bar on standard error where that is a terminal, which vanishes at its end."""
    from tqdm import tqdm

    return tqdm(
        iterable, desc=printable(name) or None, total=total, initial=done, unit=unit, file=sys.stderr, leave=False,
        disable=not sys.stderr.isatty(), **options,
    )  # fmt: skip


def _print(stream, lines) -> None:
    text = "".join(f"{printable(line, LONGEST)}\n" for line in lines)
    with whole, _bars_aside(stream):
        print(text, end="", file=stream, flush=True)


def _bars_aside(stream):
    """While something is printed the bars are taken away, if there are any."""
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)
    return nullcontext() if tqdm is None else tqdm.external_write_mode(file=stream)
