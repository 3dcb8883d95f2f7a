"""The command line of `jvan benchmark`, and what of it does not fit together. No numpy, no Jittor."""

from __future__ import annotations

import argparse
import shutil

from .._arguments import Parser, positive
from ..device import DEVICES, DTYPES
from ..variants import VANConfig, parse_arch
from .cuda_engines import NAMES, TRAINING
from .engines import DTYPES as CPU_DTYPES
from .engines import MODES, PEERS

EPILOG = """\
Every engine runs in its own process, suspended while another is timed. A round times each engine for
--seconds; the next round begins with another engine. Only torch and jittor train. torch-compile and
torch-channels-last are PyTorch with channels-last tensors; jittor is jvan's network without jvan's kernels
and without optimize_for_inference. A peer that is not installed is a line of the report. ONNX Runtime and
OpenVINO run what PyTorch exports, so they need torch and onnx too. Without --weights the weights are random.

With --device cuda every peer runs in each --dtype: torch-graphs and torch-compile-graphs replay a CUDA graph
of a whole iteration, channels-last; in 16 bits torch-channels-last uses autocast and the others convert the
weights. A training step in bfloat16 has float32 parameters and bfloat16 maps, PyTorch's by autocast. The
clock is read around batches of iterations, when the device has finished the last one. --tf32 lets all engines
round the factors of float32 products; without it none does.

The exit status is 1 where jvan was not measured, an engine failed, or outputs differ from jvan's by more
than the tolerance (1e-4 of the largest logit, bfloat16 3e-2, gradients 5e-3 of each one's largest number; on
a GPU 1e-3, float16 and TF32 2e-2, bfloat16 3e-2, gradients 5e-3, TF32 5e-2, bfloat16 0.3).
"""


def parser() -> Parser:
    found = Parser(
        prog="jvan benchmark",
        description="Time jvan against PyTorch, ONNX Runtime, OpenVINO and the plain Jittor graph.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    add(
        "--arch", nargs="+", type=_arch, metavar="A",
        help="networks, van_b0 … van_b6, or with fields changed: van_b0:stem_stride=1 (default: van_b0)",
    )  # fmt: skip
    add("--batch-size", nargs="+", type=positive, default=[1], metavar="N", help="pictures at a time (default: 1)")
    add(
        "--size", nargs="+", type=_size, default=[(224, 224)], metavar="S",
        help="pixels, 224 or 224x320, of 32 or more (default: 224)",
    )  # fmt: skip
    add("--mode", nargs="+", choices=MODES, default=["infer"], help="inference or a training step (default: infer)")
    add(
        "--device", choices=DEVICES, default="cpu",
        help="where every engine computes; auto: on a GPU that computes right numbers, else on the CPU (default: cpu)",
    )  # fmt: skip
    names = list(dict.fromkeys((*PEERS, *NAMES)))
    add(
        "--against", nargs="*", choices=names, metavar="ENGINE",
        help=f"of {', '.join(PEERS)}; with --device cuda of {', '.join(NAMES)} (default: those of the same --dtype)",
    )  # fmt: skip
    add(
        "--dtype", nargs="+", choices=DTYPES, default=["float32"],
        help="what jvan computes in; float16 with --device cuda only (default: float32)",
    )  # fmt: skip
    add("--tf32", action="store_true", help="with --device cuda: TF32 in the float32 products of all engines")
    add("--rounds", type=positive, default=5, metavar="N", help="rounds (default: 5)")
    add("--seconds", type=_seconds, default=1.0, metavar="S", help="of an engine in a round, about (default: 1)")
    add("--threads", type=positive, metavar="N", help="threads of every engine (default: the cores)")
    add("--weights", metavar="W", help="a weights file or a catalogue name, which then says the network")
    add(
        "--python", action="append", default=[], type=_python, metavar="[ENGINE=]PATH",
        help="the interpreter of the peers, or of one; may be repeated (default: this one; jittor keeps it)",
    )  # fmt: skip
    add(
        "--timeout", type=_seconds, default=1800.0, metavar="S",
        help="that an engine may take for one answer (default: 1800)",
    )  # fmt: skip
    add("--lock", metavar="FILE", help="lock FILE (flock) while a round is timed, on a machine that is shared")
    add("--profile", action="store_true", help="list jvan's operators by time, too")
    add("--json", action="store_true", help="print one JSON document instead of tables")
    add("--plot", metavar="FILE", help="draw a figure (needs matplotlib)")
    return found


def contradiction(options) -> str:
    """What does not fit together, in one line; empty where all does."""
    cuda = options.device == "cuda"
    if options.weights and options.arch and len(options.arch) > 1:
        return "--weights has one network; name one --arch, or none"
    strangers = set(options.against or ()) - set(NAMES if cuda else PEERS)
    if strangers:
        other = "runs on the CPU alone; leave it out" if cuda else "needs --device cuda"
        return f"--against {' '.join(sorted(strangers))} {other}"
    if options.tf32 and not cuda:
        return "--tf32 needs --device cuda"
    if not cuda and "float16" in options.dtype:
        return f"--dtype float16 needs --device cuda; on the CPU there are {' and '.join(CPU_DTYPES)}"
    training = TRAINING if cuda else ("float32",)
    if "train" in options.mode and not set(training) & set(options.dtype):
        return f"training is in {' or '.join(training)}; add it to --dtype or leave train out"
    return ""


def _arch(text: str) -> VANConfig:
    try:
        return parse_arch(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e7:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _size(text: str) -> tuple[int, int]:
    height, by, width = text.partition("x")
    height, width = positive(height), positive(width if by else height)
    if min(height, width) < 32:
        raise argparse.ArgumentTypeError(
            f"{text!r} is too small; the network halves a picture five times, to 32 pixels"
        )
    return height, width


def _python(text: str) -> tuple[str, str]:
    """(engine, path), the engine empty for all peers."""
    engine, equals, path = text.partition("=")
    if not equals or "/" in engine:
        engine, path = "", text
    known = list(dict.fromkeys((*PEERS, *NAMES)))
    if engine and engine not in (*known, "jvan", "jvan-bf16", "onnx"):
        raise argparse.ArgumentTypeError(f"{engine!r} is no engine; choose one of {', '.join(known)}")
    if shutil.which(path) is None:
        raise argparse.ArgumentTypeError(f"{path!r} is no interpreter that can be run")
    return engine, path
