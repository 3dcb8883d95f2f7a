"""`python -m jvan.validate`: measure a network on labelled pictures."""

from __future__ import annotations

import csv
import sys
from argparse import RawDescriptionHelpFormatter

from ._arguments import Parser, add_device, add_dtype, add_max_pixels, not_negative, positive
from ._cli import command
from ._say import bar, show, show_json, tell, warnings_told
from ._text import cell
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
SHOWN = 40  # classes in the table


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
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")
    add_device(parser)
    add_dtype(parser)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Print what the network reaches; 1 for data that do not fit it."""
    options = _parser().parse_args(argv)
    from .classification.measure import measure

    for path in filter(None, (options.csv, options.confusion)):
        check_writable(path)
    with warnings_told(_tell):
        found = measure(
            options.data, options.arch, options.weights, device=options.device, dtype=options.dtype, batch_size=options.batch_size,
            workers=options.workers, max_pixels=options.max_pixels, confusion=bool(options.confusion), say=_say, progress=_progress,
        )  # fmt: skip
    if not found.first:
        return 0
    for name, reason in found.corrupt:
        _tell(f"{name}: {reason}; it is not counted")
    if options.csv:
        rows = ((index, cell(name), *numbers) for index, name, *numbers in found.rows())
        _write(options.csv, [("index", "class", "pictures", "top1", "top5"), *rows])
    if options.confusion:
        _write(options.confusion, _matrix(found))
    if options.json:
        show_json(_document(found))
    else:
        show(*_table(found))
    return 0


def _say(predictor, split, how: str) -> None:
    for line in (
        *predictor.describe(),
        f"data: {split.title}, {len(split)} pictures of {len(split.classes)} classes; {how}",
        *split.notes,
    ):
        _tell(line)


def _progress(batches, total: int):
    return bar(batches, total=total, unit="batch")


def _document(found) -> dict:
    result = found.evaluation
    names = ("index", "class", "pictures", "top1", "top5")
    return {
        "data": found.data, "weights": found.predictor.weights, "arch": found.predictor.metadata.config.arch,
        "pictures": result.count, "top1": result.top1, "top5": result.top5, "loss": result.loss, "claim": found.claim,
        "corrupt": [list(row) for row in found.corrupt],
        "classes": [dict(zip(names, row)) for row in found.rows()],
        "confusion": [list(row) for row in _pairs(found)],
    }  # fmt: skip


def _pairs(found):
    """(label, answer, pictures) of all answers, right ones too."""
    right = [(index, index, round(count * top1)) for index, _, count, top1, _ in found.rows() if top1]
    return sorted([*right, *found.confused()]) if found.evaluation.confusion is not None else []


def _matrix(found) -> list[tuple]:
    """A row a class of the data, a column a class that was answered or is in the data."""
    matrix, labels = found.evaluation.confusion, found.predictor.labels
    rows = [index for index, *_ in found.rows()]
    columns = sorted({*rows, *matrix.sum(0).nonzero()[0].tolist()})
    head = ("class", *(cell(labels[column].name) for column in columns))
    return [head, *((cell(labels[row].name), *(int(matrix[row, column]) for column in columns)) for row in rows)]


def _table(found):
    result, labels = found.evaluation, found.predictor.labels
    claim = f"   (claimed: {found.claim:.2f} %)" if found.claim is not None else ""
    yield from (f"top-1  {100 * result.top1:6.2f} %{claim}", f"top-5  {100 * result.top5:6.2f} %")
    rows = list(found.rows())
    yield from (f"pictures {result.count}", "", f"{'top-1':>8}  {'top-5':>8}  pictures  class")
    for _, name, count, top1, top5 in rows[:SHOWN]:
        yield f"{100 * top1:6.2f} %  {100 * top5:6.2f} %  {count:8d}  {name}"
    if len(rows) > SHOWN:
        yield f"… and {len(rows) - SHOWN} more classes: --csv FILE has them all"
    if found.confused():
        yield from ("", "most often confused")
    for label, answer, count in found.confused()[:5]:
        yield f"{count:8d}  {labels[label].name} taken for {labels[answer].name}"


def _write(path: str, rows) -> None:
    # half characters, such as a name may hold, become escapes
    with replaced(path) as place, open(place, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _tell(message: str) -> None:
    tell(f"jvan validate: {message}")


if __name__ == "__main__":
    sys.exit(main())
