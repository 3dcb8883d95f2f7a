"""`python -m jvan.train`: train a network."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields

from ._arguments import Parser
from ._cli import command
from ._say import tell

EPILOG = """\
{task}
OUTPUT then holds last.safetensors and best.safetensors (weights for jvan predict), log.csv (a row a logged step),
validation.csv, config.json, and state/, from which --resume goes on, bit for bit. Ctrl-C and SIGTERM save first.

Several processes: mpirun -np N jvan train DATA …

{recipes}
"""
TYPES = {"str": str, "int": int, "float": float}


def _parser(task) -> Parser:
    about, recipes = task.training_help
    parser = Parser(
        prog="jvan train",
        description="Train or fine-tune a VAN on a data set.",
        epilog=EPILOG.format(task=about, recipes=recipes),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # so that a recipe knows what was typed
        allow_abbrev=False,  # the official script's --amp is no --amp-dtype
    )
    parser.add_argument("data", metavar="DATA", type=_not_empty, help="the pictures to learn from")
    for option in (each for each in fields(task.config) if "help" in each.metadata):
        parser.add_argument(*_names(option), dest=option.name, **_how(option))
    return parser


def _task_in(argv):
    """The task that --arch or --weights means, which has its own options."""
    first = Parser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("--arch", "--weights"):
        first.add_argument(name, nargs="?")
    options, _ = first.parse_known_args(argv)
    from .tasks import task_of

    return task_of(options.arch, options.weights)


def _not_empty(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("is empty; give the folder or the tar file of the pictures")
    return text


def _names(option) -> tuple[str, ...]:
    return (f"--{option.name.replace('_', '-')}", *option.metadata["aliases"])


def _how(option) -> dict:
    """How argparse reads a field of a run's configuration."""
    meta = option.metadata
    if option.type == "bool":
        return {"action": "store_true", "help": meta["help"]}
    default = "" if option.default is None or "default:" in meta["help"] else f" (default: {option.default})"
    how = {"type": _reader(option), "help": f"{meta['help']}{default}".replace("%", "%%")}
    if meta["flag"] is not None:
        how.update(nargs="?", const=Flag, action=Flag, flag=meta["flag"])
    return {**how, "choices": meta["choices"]} if meta["choices"] else {**how, "metavar": meta["metavar"]}


class Flag(argparse.Action):
    """An option that may stand without its value, such as timm's --model-ema, whose number is --model-ema-decay, in any order."""

    def __init__(self, *args, flag, **options):
        super().__init__(*args, **options)
        self.flag = flag

    def __call__(self, parser, namespace, value, option_string=None):
        if value is not Flag:
            setattr(namespace, self.dest, value)
        elif not hasattr(namespace, self.dest):
            setattr(namespace, self.dest, self.flag)


def _reader(option):
    """Text to the option's value; argparse says what is wrong with it."""
    convert, meta = TYPES[option.type.split(" ")[0]], option.metadata

    def read(text: str):
        if text == meta["nothing"]:
            return None
        if not text:
            raise argparse.ArgumentTypeError("its value is empty; leave the option out, or give it one")
        try:
            value = convert(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no {convert.__name__}") from None
        if not _inside(value, meta):
            raise argparse.ArgumentTypeError(f"{text} must be {_bounds(meta)}")
        return value

    return read


def _inside(value, meta) -> bool:
    """Whether an option's value is finite and within its bounds, if it has any."""
    if meta["at_least"] is None:
        return True
    return meta["at_least"] <= value < float("inf") and not (
        (meta["at_most"] is not None and value > meta["at_most"])
        or (meta["below"] is not None and value >= meta["below"])
    )


def _bounds(meta) -> str:
    bounds = [f"at least {meta['at_least']}"]
    bounds += [f"at most {meta['at_most']}"] if meta["at_most"] is not None else []
    bounds += [f"below {meta['below']}"] if meta["below"] is not None else []
    return " and ".join(bounds)


@command
def main(argv: list[str] | None = None) -> int:
    """Train as the options say; 130 and 143 where Ctrl-C and SIGTERM ended it, its state saved."""
    task = _task_in(argv)
    given = vars(_parser(task).parse_args(argv))
    from .engine.signals import interrupts_held

    config = task.make_config(given)
    if config.plot:
        from .engine.curves import check_matplotlib

        check_matplotlib()
    with interrupts_held():
        from .engine.loop import train

    result = train(config, _tell)
    return _conclude(result, config) if result.output.writes else 128 * bool(result.signal) + result.signal


def _conclude(result, config) -> int:
    """What the process that writes says at the end; the exit status."""
    if config.plot:
        from .engine.curves import draw

        _tell(f"curves: {draw(result.output.folder, config.task.best)}")
    if result.signal:
        _tell(f"stopped after step {result.progress.step}; the same command with --resume goes on")
        return 128 + result.signal
    best = f"best {config.task.describe_best(result.progress.best)}: " if result.progress.best >= 0 else ""
    _tell(f"{best}{result.output.folder / 'best.safetensors'}")
    return 0


def _tell(message: str) -> None:
    try:
        tell(f"jvan train: {message}")
    except OSError:  # whoever read has gone, such as a `tee` that the same Ctrl-C ended: the run must still be saved
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


if __name__ == "__main__":
    sys.exit(main())
