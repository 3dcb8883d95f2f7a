"""`python -m jvan.cuda_home`: the CUDA that Jittor is given, as lines for a shell, or assembled in a folder of your own."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from ._arguments import Parser
from ._cli import command
from ._say import show, show_json, tell

EPILOG = """\
`import jvan` does this on its own. The command is for what imports Jittor without jvan, and for images that are built
where there is no GPU:

    eval "$(jvan cuda-home)"
    jvan cuda-home --install /opt/jittor-cuda --arch 80 90 > /etc/profile.d/jittor-cuda.sh

It takes the newest whole toolkit that the driver runs, from PATH, CUDA_HOME, the usual places, or NVIDIA's wheels
among Python's packages. Nothing is downloaded. docs/gpu.md says what is in the folder, and why.
"""


def _parser() -> Parser:
    parser = Parser(
        prog="jvan cuda-home",
        description="Print the variables that make Jittor run with this machine's CUDA; assemble what it lacks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--install", metavar="DIR", help="assemble there, instead of an earlier one (default: the cache)"
    )
    parser.add_argument("--nvcc", metavar="FILE", help="the compiler of the toolkit to take (default: the newest)")
    parser.add_argument(
        "--arch",
        type=_arch,
        nargs="+",
        metavar="N",
        help="architectures, as 90 for sm_90 (default: of the GPUs in sight)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the lines for a shell")
    return parser


def _arch(text: str) -> int:
    digits = text[3:] if text.startswith("sm_") else text
    if not digits.isascii() or not digits.isdigit() or not 30 <= int(digits) <= 999:
        raise argparse.ArgumentTypeError(f"{text!r} is no architecture such as 90")
    return int(digits)


@command
def main(argv: list[str] | None = None) -> int:
    """Print the variables; 1 where no CUDA here can be given to Jittor."""
    options = _parser().parse_args(argv)
    from .boot.toolkit import assemble, driver, parts

    archs = sorted(set(options.arch or [gpu.arch for gpu in driver.gpus()]))
    toolkit = _toolkit(options.nvcc, driver.version(), archs)
    why = parts.reasons(toolkit, archs)
    home = _home(options.install, toolkit, archs, whole=bool(why))
    variables = {**_other_variables(), **assemble.settings(home)}
    without = parts.unused(toolkit, whole=bool(why))
    if options.json:
        document = {"home": home, "toolkit": toolkit._asdict(), "archs": archs, "why": why, "without": without}
        show_json({**document, "variables": variables}, indent=2)
        return 0
    _tell(f"{toolkit.name} " + (f"as {home}, since {', '.join(why)}" if why else "suits Jittor as it is"))
    if without:
        _tell(f"without {', '.join(without)}: Jittor's own convolutions are slow")
    show(*(f"export {name}={_quoted(value)}" for name, value in variables.items()))
    return 0


def _toolkit(nvcc: str | None, takes: tuple[int, int] | None, archs: list[int]):
    from .boot.cuda import best
    from .boot.toolkit import locate
    from .errors import JvanError

    chosen = [locate.ask(os.path.abspath(nvcc))] if nvcc and os.access(nvcc, os.X_OK) else []
    if nvcc and not any(chosen):
        raise JvanError(f"{nvcc} is no nvcc that runs; name the bin/nvcc of a toolkit")
    anything = (999, 0)  # without a driver, for the machine that it is built for
    toolkit, faults = best(chosen or locate.toolkits(), takes or anything, archs)
    if toolkit is None:
        what, fix = faults[0] if faults else ("no nvcc is here", "install a CUDA toolkit, or its wheels: docs/gpu.md")
        raise JvanError(f"{what}; to mend it: {fix}")
    return toolkit


def _home(folder: str | None, toolkit, archs: list[int], whole: bool) -> str:
    from .boot.cuda import home_for
    from .boot.toolkit import assemble
    from .errors import JvanError

    if folder is None:
        return home_for(toolkit, archs, whole=whole)
    folder = os.path.abspath(folder)
    if shlex.quote(folder) != folder:
        raise JvanError(f"{folder}: Jittor's commands do not survive such a name; choose one of letters and digits")
    if os.path.lexists(folder) and not assemble.is_home(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise JvanError(f"{folder} holds something else; choose a new or empty folder")
    assemble.assemble(folder, toolkit, archs, whole=whole)
    return folder


def _other_variables() -> dict[str, str]:
    """What jvan set for Jittor besides CUDA, so that the lines are enough on their own."""
    from .boot.settings import defaults_set

    return {name: value for name, value in defaults_set().items() if name != "nvcc_path"}


def _quoted(value: str) -> str:
    """For a shell; what a terminal does not show is spelled out for `printf`, since lines are made printable."""
    if value.isprintable():
        return shlex.quote(value)
    return "\"$(printf '{}')\"".format("".join(f"\\{byte:03o}" for byte in os.fsencode(value)))


def _tell(message: str) -> None:
    tell(f"jvan cuda-home: {message}")


if __name__ == "__main__":
    sys.exit(main())
