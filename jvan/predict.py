"""`python -m jvan.predict`: classify pictures."""

from __future__ import annotations

import json
import os
import sys
from argparse import RawDescriptionHelpFormatter
from collections import deque

from ._arguments import Parser, add_device, add_dtype, add_max_pixels, positive
from ._cli import RESTARTED, command
from ._say import bar, show, show_ascii, tell, warnings_told
from ._stop import whole
from .errors import JittorRebuilt
from .files import replaced
from .variants import list_models

EPILOG = """\
A folder is searched recursively, in sorted order, for JPEG, PNG, WebP, BMP, GIF and TIFF files, known by suffix
or by content; hidden names are left out. A quoted pattern ('photos/**/*.jpg') is expanded in sorted order.
A dash reads paths from standard input, one a line. Pictures are turned as their EXIF tag says; transparency
is dropped, and animations and pages give their first one. A picture that cannot be read is named on standard error
(and has an "error" in --json), the others go on, and the exit status is 1.

--labels: one name a line, a JSON list, or a JSON object {index: name}; each name may follow a WordNet id.
--json: one list of {"file", "predictions": [{"index", "label", "probability", "wnid"?}], "error"?}. It is whole, with
what was read until then, also where the job fails, runs out of memory, or is ended by Ctrl-C or SIGTERM; only a kill
(SIGKILL) cuts it off. --json-lines prints each of these objects as a line at once, and outlasts that, too.
"""


def _parser() -> Parser:
    parser = Parser(
        prog="jvan predict",
        description="Classify pictures. Without --weights and --arch the bundled network is used: CIFAR-10's ten classes.",
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", metavar="IMAGE|FOLDER|PATTERN|-", nargs="+", help="what to classify")
    parser.add_argument("--weights", metavar="W", help="a weights file, or a name such as van_b0.in1k to download")
    parser.add_argument(
        "--arch",
        choices=list_models(),
        metavar="A",
        help="van_b0 … van_b6; alone, the published weights of B0 to B4 are downloaded",
    )
    parser.add_argument(
        "--topk", type=positive, metavar="K", help="of a classifier: classes to show a picture (default: 5)"
    )
    parser.add_argument("--labels", metavar="FILE", help="the classes' names, instead of those of the weights")
    parser.add_argument("--batch-size", type=positive, default=16, metavar="N", help="pictures at a time (default: 16)")
    parser.add_argument(
        "--output", metavar="DIR", help="a folder for drawn pictures; refused of a classifier, which draws none"
    )
    parser.add_argument("--force", action="store_true", help="overwrite pictures that --output holds")
    add_max_pixels(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    form.add_argument("--json-lines", action="store_true", help="print a JSON object a line instead, each at once")
    add_device(parser)
    add_dtype(parser)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Print what each picture is; 1 if one could not be read or none was found."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.output is None and options.force:
        parser.error("--force is about the pictures of --output; leave it out, or give --output")
    if options.output is not None and not _task(options).drawn:
        parser.error("--output: a classifier draws nothing; leave it out (--json prints its answers for a program)")
    if options.topk is not None and "topk" not in _task(options).call_options:
        parser.error("--topk is about a classifier's classes, and these weights are no classifier's; leave it out")
    printer = _Json() if options.json else _JsonLines() if options.json_lines else _Table()
    with (
        printer,
        printer,
    ):  # twice: a signal may come in the moment before the first end is reached, but no other after it
        return _predict(options, printer)


def _task(options):
    """What the weights are for, told before they are read."""
    from .tasks import task_of

    return task_of(options.arch, options.weights)


def _predict(options, printer) -> int:
    from .pictures.find import find_pictures

    predictor = _predictor(options)
    found = find_pictures(options.images, getattr(sys.stdin, "buffer", ()))
    if options.output is not None or (sys.stderr.isatty() and "-" not in options.images):
        found = list(found)  # names only, so that the bar knows where it ends
    results = _results(predictor, found, options.topk)
    if options.output is not None:
        results = _drawn(results, _places(found, options, predictor.task), predictor.task)
    return _print_all(results, found, printer, predictor.task)


def _predictor(options):
    from .tasks import Predictor

    with warnings_told(_tell):
        predictor = Predictor(
            options.arch, options.weights, device=options.device, dtype=options.dtype, labels=options.labels,
            batch_size=options.batch_size, max_pixels=options.max_pixels,
        )  # fmt: skip
    for line in predictor.describe():
        _tell(line)
    return predictor


def _results(predictor, found, topk):
    """Yield (file as given, its answer or its PictureError), in the order of `found`."""
    from .errors import PictureError

    names = deque()

    def images():
        for file, error in found:
            names.append(file)
            yield PictureError(f"{file}: {error}") if error else file

    for _, result in predictor.stream(images(), **({} if topk is None else {"topk": topk})):
        yield names.popleft(), result


def _places(found, options, task) -> dict[str, str]:
    from .pictures.places import places

    files = [file for file, error in found if not error]
    return places(files, options.images, options.output, task.drawn, options.force)


def _drawn(results, places: dict[str, str], task):
    """Yield `results` again, each after its pictures were written."""
    for file, result in results:
        if not isinstance(result, Exception):
            os.makedirs(os.path.dirname(places[file]) or ".", exist_ok=True)
            for suffix, picture in zip(task.drawn, task.draw(file, result)):
                with replaced(places[file] + suffix) as place:
                    picture.save(place, "PNG")
        yield file, result


def _print_all(results, found, printer, task) -> int:
    """Print every result as it comes; the exit status."""
    good = bad = 0
    with bar(unit="picture", total=len(found) if isinstance(found, list) else None) as progress:
        for file, result in results:
            failed = isinstance(result, Exception)
            printer.show(file, result, task)
            if failed:
                _tell(str(result))
            good, bad = good + (not failed), bad + failed
            progress.update()
    if not good + bad:
        _tell("no pictures were given")
    return 1 if bad or not good else 0


class _Table:
    """A picture's name and, below it, the task's lines."""

    def __enter__(self) -> None:
        self._started = False

    def show(self, file: str, result, task) -> None:
        if isinstance(result, Exception):
            return
        show(*([""] if self._started else []), file, *task.table(result))
        self._started = True

    def __exit__(self, *_) -> None:
        pass


class _Json:
    """One list, written entry by entry, so that any number of pictures fits; it ends however the job does."""

    def __enter__(self) -> None:
        self._begun = self._ended = False

    def show(self, file: str, result, task) -> None:
        text = _entry(file, result, task)
        with whole:
            separator = ",\n" if self._begun else "\n"
            if not self._begun:
                show_ascii("[")
                self._begun = True
            show_ascii(separator + text)  # in one piece, for which memory may be wanting

    def __exit__(self, kind, *_) -> None:
        with whole:
            # the command then runs once more, and prints the list
            again = kind is JittorRebuilt and RESTARTED not in os.environ
            if not self._ended and not again:
                show_ascii("\n]\n" if self._begun else "[]\n", at_once=True)
            self._ended = True


class _JsonLines(_Table):
    """An entry a line, at once, for who must survive a kill."""

    def show(self, file: str, result, task) -> None:
        show_ascii(f"{_entry(file, result, task)}\n", at_once=True)


def _entry(file: str, result, task) -> str:
    """A picture's object in JSON."""
    if isinstance(result, Exception):
        return json.dumps({"file": file, **task.entry(None), "error": result.plain})
    return json.dumps({"file": file, **task.entry(result)})


def _tell(message: str) -> None:
    tell(f"jvan predict: {message}")


if __name__ == "__main__":
    sys.exit(main())
