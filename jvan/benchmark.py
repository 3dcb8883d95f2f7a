"""`python -m jvan.benchmark`: jvan against other engines, on the same weights and input."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from ._cli import command
from .benchmarking.engines import DTYPES, MODES, PEERS, chosen
from .errors import JvanError
from .variants import list_models, variant_config

EPILOG = """\
Every engine runs in a process of its own, suspended while another is timed. A round times each engine for
--seconds; the next round begins with another engine. Only torch and jittor train. torch-compile and
torch-channels-last are PyTorch with channels-last tensors; jittor is jvan's network without jvan's kernels
and without optimize_for_inference. A peer that is not installed is a line of the report. ONNX Runtime and
OpenVINO run what PyTorch exports, so they need torch and onnx too. Without --weights the weights are random.

The exit status is 1 where jvan was not measured, an engine failed, or outputs differ from jvan's by more
than the tolerance (1e-4 of the largest logit, bfloat16 3e-2, gradients 5e-3 of each one's largest number).
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jvan benchmark",
        description="Time jvan against PyTorch, ONNX Runtime, OpenVINO and the plain Jittor graph.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--arch", nargs="+", choices=list_models(), metavar="A", help="networks, van_b0 … van_b6 (default: van_b0)")
    add("--batch-size", nargs="+", type=_positive, default=[1], metavar="N", help="pictures at a time (default: 1)")
    add(
        "--size", nargs="+", type=_size, default=[(224, 224)], metavar="S", help="pixels, 224 or 224x320, of 32 or more"
    )
    add("--mode", nargs="+", choices=MODES, default=["infer"], help="inference or a training step (default: infer)")
    add(
        "--against",
        nargs="*",
        choices=list(PEERS),
        metavar="ENGINE",
        help=f"of {', '.join(PEERS)} (default: those of the same --dtype)",
    )
    add("--dtype", nargs="+", choices=DTYPES, default=["float32"], help="what jvan computes in (default: float32)")
    add("--rounds", type=_positive, default=5, metavar="N", help="rounds (default: 5)")
    add("--seconds", type=_seconds, default=1.0, metavar="S", help="of an engine in a round, about (default: 1)")
    add("--threads", type=_positive, metavar="N", help="threads of every engine (default: the cores)")
    add("--weights", metavar="W", help="a weights file or a catalogue name, which then says the network")
    add(
        "--python", action="append", default=[], type=_python, metavar="[ENGINE=]PATH",
        help="the interpreter of the peers, or of one; may be repeated (default: this one; jittor keeps it)",
    )  # fmt: skip
    add("--timeout", type=_seconds, default=1800.0, metavar="S", help="that an engine may take for one answer")
    add("--lock", metavar="FILE", help="lock FILE (flock) while a round is timed, on a machine that is shared")
    add("--profile", action="store_true", help="list jvan's operators by time, too")
    add("--json", action="store_true", help="print one JSON document instead of tables")
    add("--plot", metavar="FILE", help="draw a figure (needs matplotlib)")
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Measure every case and print the report; 130 where Ctrl-C cut it short, with what was measured until then."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.weights and options.arch and len(options.arch) > 1:
        parser.error("--weights has one network; name one --arch, or none")
    if "train" in options.mode and options.dtype == ["bfloat16"]:
        parser.error("training is in float32; add float32 to --dtype or leave train out")
    from .benchmarking.plot import check_plot, plot

    if options.plot:
        check_plot(options.plot)
    document = _benchmark(options)
    _print(document, options.json)
    if options.plot:
        plot(document, options.plot)
    return 130 if document["interrupted"] else _status(document)


def _benchmark(options) -> dict:
    from .benchmarking.cases import cases
    from .benchmarking.machine import describe_machine
    from .benchmarking.report import document
    from .benchmarking.rounds import begin, run

    machine = describe_machine()  # before the benchmark is itself the load
    networks, settings = _networks(options), _settings(options)
    results, interrupted = [], False
    folder = Path(tempfile.mkdtemp(prefix="jvan-benchmark-"))
    try:
        with _interruptible():
            for case in cases(list(networks), options.size, options.batch_size, options.mode):
                results.append(begin(case, chosen(case.mode, options.dtype, options.against)))
                run(results[-1], networks[case.config](), settings, folder, _teller(case.title))
    except KeyboardInterrupt:
        interrupted = True
        _tell("interrupted; what follows was measured until then")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return document(results, machine, settings, interrupted)


def _networks(options) -> dict:
    """{configuration: a function that gives its weights}"""
    from .benchmarking.machine import random_weights

    if options.weights is None:
        configs = [variant_config(arch) for arch in dict.fromkeys(options.arch or ["van_b0"])]
        return {config: lambda config=config: random_weights(config) for config in configs}
    from .checkpoints.state import load_state

    state = load_state(options.weights, arch=(options.arch or [None])[0])
    if "train" in options.mode and not state.metadata.config.num_classes:
        raise JvanError(f"{options.weights}: a network without a head cannot be trained to classify; use --mode infer")
    return {state.metadata.config: lambda: state.tensors}


def _settings(options):
    from .benchmarking.machine import available_cores
    from .benchmarking.rounds import Settings

    return Settings(
        rounds=options.rounds,
        seconds=options.seconds,
        threads=options.threads or available_cores(),
        timeout=options.timeout,
        pythons=dict(options.python),
        lock=options.lock,
        profile=options.profile,
    )


@contextmanager
def _interruptible():
    """SIGTERM inside is what Ctrl-C is, so that the workers and the temporary folder go in both cases."""
    # Ctrl-C too: Jittor, where this process has imported it, would end the process at once.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


def _print(document: dict, as_json: bool) -> None:
    from .benchmarking.report import text

    print(json.dumps(document, indent=1) if as_json else text(document), flush=True)


def _status(document: dict) -> int:
    entries = [entry for case in document["cases"] for entry in case["engines"]]
    bad = any(entry["status"] == "failed" or entry["wrong"] for entry in entries)
    ours = any(entry["engine"].startswith("jvan") and entry["status"] != "ok" for entry in entries)
    return 1 if bad or ours else 0


def _teller(title: str):
    return lambda line: _tell(f"{title}: {line}")


def _tell(line: str) -> None:
    print(f"jvan benchmark: {line}", file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


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
    height, width = _positive(height), _positive(width if by else height)
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
    if engine and engine not in (*PEERS, "jvan", "jvan-bf16", "onnx"):
        raise argparse.ArgumentTypeError(f"{engine!r} is no engine; choose one of {', '.join(PEERS)}")
    if shutil.which(path) is None:
        raise argparse.ArgumentTypeError(f"{path!r} is no interpreter that can be run")
    return engine, path


if __name__ == "__main__":
    sys.exit(main())
