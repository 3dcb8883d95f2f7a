"""What the commands' options share: complaints fit for a terminal, numbers, the device and the precision."""

from __future__ import annotations

import argparse

from ._text import printable
from .device import DEVICES, DTYPES


class Parser(argparse.ArgumentParser):
    """argparse's, whose complaint is one printable line: a pattern may have put a file's name among the options."""

    def error(self, message: str):
        super().error(printable(message))


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
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where to compute (default: auto)")


def add_dtype(parser) -> None:
    """--dtype."""
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="what is multiplied; float16 on GPUs alone (default: float32)",
    )


def add_max_pixels(parser) -> None:
    """--max-pixels."""
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="refuse pictures of more pixels (default: 178,956,970, Pillow's own limit, and 1.5 GB of memory a picture)",
    )
