"""`python -m jvan COMMAND` and the console script `jvan`: a table of commands."""

from __future__ import annotations

import importlib
import sys

from ._cli import command
from ._say import show, tell

COMMANDS = {
    "predict": "classify pictures",
    "train": "train or fine-tune a network",
    "validate": "measure a network on labelled pictures",
    "convert": "turn a checkpoint into another format, or another project's names",
    "inspect": "show what a checkpoint holds, without running or believing it",
    "benchmark": "time jvan against PyTorch, ONNX Runtime, OpenVINO and plain Jittor",
    "cuda-home": "make Jittor run with this machine's CUDA; the variables, for a shell",
    "doctor": "what this machine has, what was mended, what is still wrong",
}


@command
def main(argv: list[str] | None = None) -> int:
    """Run one command; 2 for an unknown one."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in COMMANDS:
        return importlib.import_module(f"jvan.{argv[0].replace('-', '_')}").main(argv[1:])
    if argv and argv[0] == "--version":
        from jvan import __version__

        show(f"jvan {__version__}")
        return 0
    asked = argv in (["-h"], ["--help"])
    if argv and not asked:
        tell(f"jvan: unknown command {argv[0]!r}", "")
    (show if asked else tell)(
        "usage: jvan COMMAND [options]",
        "",
        *(f"  {name:9} {what}" for name, what in COMMANDS.items()),
        "",
        "jvan COMMAND --help shows a command's options.",
    )
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
