"""`python -m tools.gpu_check`: everything that can only be seen on a GPU, step by step, each in its own process."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from pathlib import Path
from typing import NamedTuple

from jvan import children
from jvan._arguments import Parser
from jvan._cli import command
from jvan._say import show

from . import summary as summaries
from . import wheels
from .environment import before_jittor

# Jittor's log and the compilers' words are kept. No step needs MPI or cuDNN, which Jittor would compile first.
ENVIRONMENT = {"log_silent": "0", "use_mpi": "0", "conv_opt": "1"}
STEPS = (
    "environment", "jittor", "kernels", "parity", "training", "accuracy", "learning", "bandwidth",
    "speed", "speed-training", "speed-compiled",
)  # fmt: skip
START = "from tools.gpu_check.gpu_check import main\nsys.exit(main(sys.argv[1:]))"  # in each step's process
NEED_DATA = ("accuracy", "learning")
SPARE_S = 15.0  # of --limit, for a step that ends on its own: Python's start before it, and what is left to write
OK, LEFT_OUT, FAILED = "ok", "left out", "failed"  # a step that was not finished has failed
EPILOG = """\
A step that fails, hangs past --limit or kills its process is reported, and the next one runs. What a step
found is written to OUT/STEP.json, what it printed to OUT/STEP.txt, and what Jittor and the compilers said to
OUT/STEP.log. OUT/summary.json has every step's result and a verdict on each goal (met, missed, open) by what
OUT holds, from earlier runs too; the last lines repeat them. The exit status is 1 where a step failed or was
not finished; a goal that is missed does not change it. A speed step that was not finished goes on with the
cases that are left when it is run again with the same OUT on the same GPU.

environment and jittor take the time that Jittor needs to compile its core, once; kernels and parity need the GPU
alone. training, accuracy and learning train small networks; accuracy and learning need --data. The speed steps need
a PyTorch with CUDA and measure as many cases as --limit allows. docs/gpu.md has commands for a machine without a
network.
"""


class Outcome(NamedTuple):
    """What came of a step: OK, LEFT_OUT or FAILED, and a line about it."""

    status: str
    text: str


def _parser() -> Parser:
    parser = Parser(
        prog="python -m tools.gpu_check",
        description="Check jvan's CUDA kernels, and measure them and the networks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), metavar="DIR", help="default: gpu_check")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--limit", type=float, default=280.0, metavar="S", help="seconds a step (default: 280)")
    parser.add_argument(
        "--data", type=Path, metavar="DATA", help="CIFAR-10, without which accuracy and learning are left out"
    )
    parser.add_argument(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="install DIR/*.whl first, without a network, for the steps alone and before what is installed",
    )
    parser.add_argument("--pack", type=Path, metavar="FILE", help="put all that was found into FILE, a .tar.gz, after each step")  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true", help="the same logic on the CPU: small cases, emulated kernels"
    )
    parser.add_argument("--child", choices=STEPS, help=argparse.SUPPRESS)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Run the steps; 1 where one failed."""
    options = _parser().parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.child:
        return _run_step(options.child, options)
    site = options.wheels and wheels.install(options.wheels)
    results, texts, summary = {}, {}, {}
    for step in options.steps:
        left_out = step in NEED_DATA and not (options.data or options.dry_run)
        results[step] = Outcome(LEFT_OUT, "left out: no --data") if left_out else _in_process(step, options, site)
        texts = {step: outcome.text for step, outcome in results.items()}
        summary = summaries.write(options.out, texts)
        if options.pack:
            summaries.pack(options.out, options.pack)
    show(*summaries.lines(summary, texts))
    return int(any(outcome.status == FAILED for outcome in results.values()))


def _in_process(step, options, site) -> Outcome:
    """Run one step in a child."""
    show(f"== {step}")
    start, text, log = time.monotonic(), options.out / f"{step}.txt", options.out / f"{step}.log"
    _set_aside(options.out / f"{step}.json", options.dry_run)
    arguments = ["--child", step, "--out", str(options.out), "--limit", str(options.limit)]
    arguments += (["--dry-run"] if options.dry_run else []) + (["--data", str(options.data)] if options.data else [])
    settings = {"first": [site] if site else [], "environment": {**wheels.environment(site), **ENVIRONMENT}}
    with open(text, "wb") as printed, open(log, "wb") as said:
        try:
            child = children.run_python(
                START, *arguments, stdout=printed, stderr=said, timeout=options.limit, **settings
            )
            status = child.returncode
        except children.TimeoutExpired:
            status = None
    show(*text.read_text(encoding="utf-8", errors="replace").splitlines())
    if status != 0:
        show(*log.read_text(encoding="utf-8", errors="replace")[-3000:].splitlines())
    show(f"-- {step}: {time.monotonic() - start:.0f} s")
    outcome = _judged(status, options.out / f"{step}.json", options.limit, log)
    if outcome.status == OK:
        return outcome
    return outcome._replace(text=outcome.text + _no_gpu(options.out / "environment.json"))


def _set_aside(found: Path, dry_run: bool) -> None:
    """Remove what an earlier run found, unless cases are left in it: then the step goes on from there."""
    document = _read(found)
    if document.get("left") and document.get("dry_run") is dry_run:
        found.write_text(json.dumps({**document, "earlier": True}), encoding="utf-8")
    else:
        found.unlink(missing_ok=True)


def _no_gpu(environment: Path) -> str:
    """The reason that the first step recorded."""
    reason = _read(environment).get("reason")
    return f"; no GPU: {reason}" if reason else ""


def _read(path: Path) -> dict:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return {}


def _judged(status: int | None, found: Path, limit: float, log: Path) -> Outcome:
    """By what the step found: a process may still break when it takes CUDA down at its end."""
    if status is None:
        return Outcome(FAILED, f"stopped after {limit:.0f} s; see {log}")
    if status == 0:
        return Outcome(OK, "ok")
    document = _read(found)
    if document.get("ok"):
        return Outcome(OK, f"ok, but its process ended with status {status}; see {log}")
    if document.get("left") and not document.get("earlier"):  # which the step takes away with the first that it saves
        return Outcome(FAILED, f"not finished: {len(document['left'])} cases left; run it again, with the same --out")
    return Outcome(FAILED, f"failed with status {status}; see {log}")


def _run_step(step, options) -> int:
    end, file = time.monotonic() + options.limit - SPARE_S, options.out / f"{step}.json"

    def save(found):
        file.write_text(json.dumps({**found, "dry_run": options.dry_run}, indent=1, default=str), encoding="utf-8")

    if step == "environment":
        save(before_jittor())
    from jvan.device import use_device

    from .steps import STEPS as FUNCTIONS
    from .task import Task

    use_device("cpu" if options.dry_run else "cuda" if step != "environment" else "auto")
    with _device(options.out, options.dry_run):
        found = FUNCTIONS[step](Task(options.dry_run, options.data, end, save, _read(file)))
    save(found)
    return int(not found["ok"])


@contextlib.contextmanager
def _device(out, dry_run):
    """The GPU, or for a dry run the emulator in its place, compiled once for all steps."""
    if not dry_run:
        yield
        return
    from jvan.ops.cuda.launch import use_backend
    from tools.cuda_emulator.backend import Emulated
    from tools.cuda_emulator.emulator import Emulator, build

    with use_backend(Emulated(Emulator(build(out).resolve()))):
        yield
