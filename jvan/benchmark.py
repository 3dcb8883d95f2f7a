"""`python -m jvan.benchmark`: jvan against other engines, on the same weights and input."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from ._cli import command
from ._say import show, show_json, tell
from .benchmarking.arguments import contradiction
from .benchmarking.arguments import parser as _parser
from .benchmarking.cuda_engines import chosen_on_cuda
from .benchmarking.engines import chosen
from .errors import JvanError
from .variants import VARIANTS, describe, variant_config


@command
def main(argv: list[str] | None = None) -> int:
    """Measure every case and print the report; 130 or 143 where Ctrl-C or SIGTERM cut it short, with what was measured."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.device == "auto":
        from .benchmarking.machine import device_of

        options.device = device_of(options.device)
    if contradiction(options):
        parser.error(contradiction(options))
    from .benchmarking.plot import check_plot, plot

    if options.plot:
        check_plot(options.plot)
    document, signalled = _benchmark(options)
    _print(document, options.json)
    if options.plot:
        plot(document, options.plot)
    return 128 + signalled if signalled else _status(document)


def _benchmark(options) -> tuple[dict, int]:
    """What was measured, and the signal that cut it short or 0."""
    from .benchmarking.cases import cases
    from .benchmarking.machine import describe_gpus, describe_machine
    from .benchmarking.report import document
    from .benchmarking.rounds import begin, run

    machine = describe_machine()  # before the benchmark is itself the load
    if options.device == "cuda":
        machine.update(describe_gpus())
    networks, settings = _networks(options), _settings(options)
    choose = chosen_on_cuda if options.device == "cuda" else chosen
    results, signalled = [], 0
    folder = Path(tempfile.mkdtemp(prefix="jvan-benchmark-"))
    try:
        for case in cases(list(networks), options.size, options.batch_size, options.mode):
            results.append(begin(case, choose(case.mode, options.dtype, options.against), settings))
            run(results[-1], networks[case.config](), settings, folder, _teller(case.title))
    except KeyboardInterrupt as stop:
        signalled = getattr(stop, "number", signal.SIGINT)
        _tell("interrupted; what follows was measured until then")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return document(results, machine, settings, bool(signalled)), signalled


def _networks(options) -> dict:
    """{configuration: a function that gives its weights}"""
    from .benchmarking.machine import random_weights

    if options.weights is None:
        configs = dict.fromkeys(options.arch or [variant_config("van_b0")])
        return {config: lambda config=config: random_weights(config) for config in configs}
    from .checkpoints.state import load_state

    given = options.arch[0] if options.arch else None
    state = load_state(options.weights, arch=given.arch if given and given.arch in VARIANTS else None)
    for note in state.notes:
        _tell(f"{options.weights}: {note}")
    stored = state.metadata.config
    if given and replace(given, num_classes=stored.num_classes) != replace(stored, norm_eps=given.norm_eps):
        raise JvanError(f"{options.weights}: is {describe(stored)}, not --arch {describe(given)}; leave --arch out")
    if "train" in options.mode and not stored.num_classes:
        raise JvanError(f"{options.weights}: a network without a head cannot be trained to classify; use --mode infer")
    return {stored: lambda: state.tensors}


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
        device=options.device,
        tf32=options.tf32,
    )


def _print(document: dict, as_json: bool) -> None:
    from .benchmarking.report import lines

    if as_json:
        show_json(document, indent=1)
    else:
        show(*lines(document))


def _status(document: dict) -> int:
    entries = [entry for case in document["cases"] for entry in case["engines"]]
    bad = any(entry["status"] == "failed" or entry["wrong"] for entry in entries)
    ours = any(entry["engine"].startswith("jvan") and entry["status"] != "ok" for entry in entries)
    return 1 if bad or ours else 0


def _teller(title: str):
    return lambda line: _tell(f"{title}: {line}")


def _tell(line: str) -> None:
    tell(f"jvan benchmark: {line}")


if __name__ == "__main__":
    sys.exit(main())
