"""`python -m jvan.validate`: measure a network on labelled pictures."""

from __future__ import annotations

import csv
import sys
from argparse import RawDescriptionHelpFormatter

from ._arguments import Parser, add_device, add_dtype, add_max_pixels, not_negative, positive
from ._cli import command
from ._say import bar, show, show_json, tell, warnings_told
from .files import check_writable, replaced
from .variants import list_models

EPILOG = """\
DATA is a folder or tar file with a folder of pictures a class, or CIFAR's own files; of a data set with parts its
val/ (or test/) is taken. Classes are found in the network's labels by name or WordNet id, in any order; a part of them
is enough. A picture that cannot be read is named and not counted; more than one picture and more than 1 % are an error.

--json: one object with "data", "weights", "arch", "pictures", "corrupt", "top1" and "top5" (from 0 to 1), "loss", "claim"
(the publisher's top-1, per cent), "classes" and "confusion", a list of [label, answer, pictures]. Nothing is printed
where the job fails or is ended. In CSV a name that a spreadsheet would compute, since it begins with = + - @ or a tab,
gets an apostrophe; in JSON it does not.
"""


def _parser() -> Parser:
    parser = Parser(
        prog="jvan validate",
        description="Measure top-1 and top-5 on labelled pictures. Without --weights and --arch it is the bundled network that is "
        "measured: CIFAR-10's ten classes.",
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="DATA", help="labelled pictures")
    parser.add_argument("--weights", metavar="W", help="a weights file, or a name such as van_b0.in1k to download")
    parser.add_argument(
        "--arch", choices=list_models(), metavar="A", help="van_b0 … van_b6; alone, the published weights of B0 to B4"
    )
    parser.add_argument(
        "--batch-size", "-b", type=positive, default=32, metavar="N", help="pictures at a time (default: 32)"
    )
    parser.add_argument(
        "--workers", "-j", type=not_negative, default=2, metavar="N", help="processes that decode (default: 2)"
    )
    add_max_pixels(parser)
    parser.add_argument("--csv", metavar="FILE", help="write a row a class to this file")
    parser.add_argument("--confusion", metavar="FILE", help="write the confusion matrix to this CSV file")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    add_device(parser)
    add_dtype(parser)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Print what the network reaches; 1 for data that do not fit it."""
    options = _parser().parse_args(argv)
    for path in filter(None, (options.csv, options.confusion)):
        check_writable(path)
    with warnings_told(_tell):
        found = _measured(options)
    if not found.is_rank_zero:
        return 0
    for name, reason in found.corrupt:
        _tell(f"{name}: {reason}; it is not counted")
    if options.csv:
        _write(options.csv, found.rows())
    if options.confusion:
        _write(options.confusion, found.matrix())
    if options.json:
        show_json(found.document())
    else:
        show(*found.table())
    return 0


def _measured(options):
    from .tasks import Predictor

    predictor = Predictor(options.arch, options.weights, device=options.device, dtype=options.dtype)

    def say(split, how: str) -> None:
        about = f"data: {split.title}, {len(split)} pictures of {len(split.classes)} classes; {how}"
        for line in (*predictor.describe(), about, *split.notes):
            _tell(line)

    return predictor.task.measure(predictor, options.data, options, say, _progress)


def _progress(batches, total: int):
    return bar(batches, total=total, unit="batch")


def _write(path: str, rows) -> None:
    # half characters, such as a name may hold, become escapes
    with replaced(path) as place, open(place, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _tell(message: str) -> None:
    tell(f"jvan validate: {message}")


if __name__ == "__main__":
    sys.exit(main())
