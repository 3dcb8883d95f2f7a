"""`python -m jvan.predict`: classify pictures."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import deque

from ._cli import add_device, add_dtype, command, positive
from ._text import printable
from .variants import list_models

EPILOG = """\
A folder is searched recursively, in sorted order, for JPEG, PNG, WebP, BMP and GIF files, known by suffix
or by content; hidden names are left out. A quoted pattern ('photos/**/*.jpg') is expanded in sorted order.
A dash reads paths from standard input, one a line. Pictures are turned as their EXIF tag says; transparency
is dropped, and animations give their first frame. A picture that cannot be read is named on standard error
(and has an "error" in --json), the others go on, and the exit status is 1.

--labels: one name a line, a JSON list, or a JSON object {index: name}; each name may follow a WordNet id.
--json: one list of {"file", "predictions": [{"index", "label", "probability", "wnid"?}], "error"?}.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jvan predict",
        description="Classify pictures. Without --weights and --arch the bundled network is used: CIFAR-10's ten classes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", metavar="IMAGE|FOLDER|PATTERN|-", nargs="+", help="what to classify")
    parser.add_argument("--weights", metavar="W", help="a weights file, or a name such as van_b0.in1k to download")
    parser.add_argument(
        "--arch",
        choices=list_models(),
        metavar="A",
        help="van_b0 … van_b6; alone, the published weights of B0 to B4 are downloaded",
    )
    parser.add_argument("--topk", type=positive, default=5, metavar="K", help="classes to show a picture (default: 5)")
    parser.add_argument("--labels", metavar="FILE", help="the classes' names, in place of those of the weights")
    parser.add_argument("--batch-size", type=positive, default=16, metavar="N", help="pictures at a time (default: 16)")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    add_device(parser)
    add_dtype(parser)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Print the likeliest classes of each picture; 1 if one could not be read or none was found."""
    options = _parser().parse_args(argv)
    from .inference.find import find_pictures
    from .inference.predictor import Predictor

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        predictor = Predictor(
            options.arch, options.weights, device=options.device, dtype=options.dtype, labels=options.labels,
            batch_size=options.batch_size,
        )  # fmt: skip
    for line in predictor.describe():
        _tell(line)
    for warning in caught:
        _tell(f"warning: {warning.message}")
    found = find_pictures(options.images, getattr(sys.stdin, "buffer", ()))
    if sys.stderr.isatty() and "-" not in options.images:
        found = list(found)  # names only, so that the bar knows where it ends
    return _print_all(_results(predictor, found, options.topk), found, _Json() if options.json else _Table())


def _results(predictor, found, topk):
    """Yield (file as given, its predictions or its PictureError), in the order of `found`."""
    from .errors import PictureError

    names = deque()

    def images():
        for file, error in found:
            names.append(file)
            yield PictureError(f"{file}: {error}") if error else file

    for _, result in predictor.stream(images(), topk):
        yield names.popleft(), result


def _print_all(results, found, printer) -> int:
    """Print every result as it comes, and end the JSON list whatever happens; the exit status."""
    from tqdm import tqdm

    good = bad = 0
    total = len(found) if isinstance(found, list) else None
    with tqdm(total=total, unit="picture", file=sys.stderr, leave=False, disable=not sys.stderr.isatty()) as bar:
        printer.begin()
        try:
            for file, result in results:
                failed = isinstance(result, Exception)
                with tqdm.external_write_mode(file=sys.stdout):
                    printer.show(file, result)
                    if failed:
                        _tell(str(result))
                good, bad = good + (not failed), bad + failed
                bar.update()
        finally:
            printer.end()
    if not good + bad:
        _tell("no pictures were given")
    return 1 if bad or not good else 0


class _Table:
    """A picture's name and, below it, its classes: rank, probability, WordNet id, label."""

    def begin(self) -> None:
        self._started = False

    def show(self, file: str, result) -> None:
        if isinstance(result, Exception):
            return
        lines = ["", file] if self._started else [file]
        ids = any(prediction.wnid for prediction in result)
        for rank, (_, label, probability, wnid) in enumerate(result, start=1):
            lines.append(f"{rank:4d}  {100 * probability:6.2f} %  " + (f"{wnid or '':9}  " if ids else "") + label)
        print("\n".join(_encodable(line, sys.stdout.encoding) for line in lines), flush=True)
        self._started = True

    def end(self) -> None:
        pass


class _Json:
    """One list, written entry by entry, so that any number of pictures fits."""

    def begin(self) -> None:
        sys.stdout.write("[")
        self._separator = "\n"

    def show(self, file: str, result) -> None:
        entry = {"file": file, "predictions": []}
        if isinstance(result, Exception):
            entry["error"] = str(result)
        else:
            entry["predictions"] = [
                {k: v for k, v in prediction._asdict().items() if v is not None} for prediction in result
            ]
        # ASCII only: a file name that is not text in any encoding still makes valid JSON.
        sys.stdout.write(self._separator + json.dumps(entry))
        self._separator = ",\n"

    def end(self) -> None:
        sys.stdout.write("\n]\n")


def _tell(message: str) -> None:
    print(f"jvan predict: {_encodable(message, sys.stderr.encoding)}", file=sys.stderr, flush=True)


def _encodable(text: str, encoding: str | None) -> str:
    """`text` fit for a terminal, with what is missing in its encoding as an escape."""
    encoding = encoding or "utf-8"
    return printable(text, 2000).encode(encoding, "backslashreplace").decode(encoding)


if __name__ == "__main__":
    sys.exit(main())
