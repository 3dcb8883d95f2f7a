"""Runs a case: every engine started and warmed, then timed in turns, then asked for its outputs."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .cases import Case, Result, Row
from .engines import EXPORT, PRODUCT, Engine
from .machine import random_pictures
from .process import Worker, WorkerLost

EXTRA = "pip install '.[bench]', or --python PATH"
MOST = 1000  # iterations of a round


@dataclass(frozen=True)
class Settings:
    """`pythons`: the peers' interpreters by engine, "" for all others; `lock`: a file to lock while a round is timed."""

    rounds: int = 5
    seconds: float = 1.0
    threads: int = 1
    timeout: float = 1800.0
    pythons: dict[str, str] = field(default_factory=dict)
    lock: str | None = None
    profile: bool = False

    def python(self, engine: Engine) -> str:
        """jvan and Jittor run in this process's interpreter unless another is named for them; torch's exports."""
        default = sys.executable if "jittor" in engine.script.name else self.pythons.get("", sys.executable)
        if engine is EXPORT:
            default = self.pythons.get("torch", default)
        return self.pythons.get(engine.name, default)


def begin(case: Case, engines: list[Engine]) -> Result:
    return Result(case, [Row(engine) for engine in engines], Row(PRODUCT))


def run(result: Result, weights: dict, settings: Settings, folder: Path, tell=lambda line: None) -> None:
    """Fill in `result`, as far as it comes; a worker that fails is its row's reason and stops no other."""
    arrays = folder / "arrays.npz"
    case = result.case
    np.savez(arrays, **weights, **random_pictures(case.config, case.batch_size, case.height, case.width))
    task = {"arrays": str(arrays), "config": case.config.to_dict(), "mode": case.mode, "threads": settings.threads}
    with contextlib.ExitStack() as stack:
        workers = _start(result, task, settings, folder, stack, tell)
        _measure(workers, settings, tell)
        for row, worker in workers:
            _finish(row, worker, settings, folder)


def _start(result: Result, task: dict, settings: Settings, folder: Path, stack, tell) -> list[tuple[Row, Worker]]:
    """The workers that are ready, each with its row."""
    no_onnx = None
    if any(row.engine.onnx for row in result.rows):
        tell("exporting the network to ONNX")
        task["onnx"] = str(folder / "network.onnx")
        export = Row(EXPORT)
        with contextlib.ExitStack() as brief:
            _start_one(export, task, settings, folder, brief)
        no_onnx = export.reason and f"the export to ONNX: {export.reason}"
    workers = []
    for row in (*result.rows, result.ceiling):
        if no_onnx and row.engine.onnx:
            row.status, row.reason = export.status, no_onnx
            continue
        tell(f"starting {row.engine.name}")
        worker = _start_one(row, task, settings, folder, stack)
        if worker is not None:
            workers.append((row, worker))
    return workers


def _start_one(row: Row, task: dict, settings: Settings, folder: Path, stack) -> Worker | None:
    engine = row.engine
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(settings.threads))
    try:
        command = [settings.python(engine), str(engine.script)]
        worker = stack.enter_context(Worker(command, folder / f"{engine.name}.log", {**threads, **engine.environment}))
        row.ready = worker.ask({**task, "dtype": engine.dtype, **engine.options}, settings.timeout)
    except WorkerLost as error:
        row.status, row.reason = "failed", str(error)
        return None
    if "missing" in row.ready:
        row.status, row.reason = "missing", f"{row.ready['missing']} is not installed ({EXTRA})"
        return None
    return worker


def _measure(workers: list[tuple[Row, Worker]], settings: Settings, tell) -> None:
    """Warm up, then time round after round, each begun by another engine; who fails drops out of `workers`."""
    iterations = {}
    for row, worker in list(workers):
        tell(f"warming {row.engine.name}")
        with _dropping(workers, row, worker):
            times = [t for _ in range(2) for t in _times(row, worker, 1, settings)]
            iterations[row.engine.name] = _iterations(times[-1], settings.seconds)
    for number in range(settings.rounds):
        tell(f"round {number + 1} of {settings.rounds}")
        with _locked(settings.lock):
            for row, worker in rotated(workers, number):
                with _dropping(workers, row, worker):
                    count = iterations[row.engine.name]
                    # The first one finds the caches full of another engine's data and is not counted.
                    row.rounds.append(_times(row, worker, count + 1, settings)[1:] if count > 1 else
                                      _times(row, worker, 1, settings))  # fmt: skip


def rotated(items: list, number: int) -> list:
    """The items in order, begun at the `number`-th, around the end."""
    at = number % max(len(items), 1)
    return items[at:] + items[:at]


def _iterations(seconds_each: float, seconds: float) -> int:
    return max(1, min(MOST, round(seconds / max(seconds_each, 1e-9))))


def _times(row: Row, worker: Worker, count: int, settings: Settings) -> list[float]:
    answer = worker.ask({"do": "run", "times": count}, settings.timeout)
    row.peak_mb = answer["peak_mb"]
    return answer["times"]


def _finish(row: Row, worker: Worker, settings: Settings, folder: Path) -> None:
    """The outputs, and the profile of jvan; a worker that fails here keeps its times but is not "ok"."""
    row.status = "ok"
    try:
        if row.engine is PRODUCT:
            return
        file = folder / f"{row.engine.name}.npz"
        worker.ask({"do": "check", "file": str(file)}, settings.timeout)
        with np.load(file, allow_pickle=False) as outputs:
            row.outputs = {name: outputs[name] for name in outputs.files}
        if settings.profile and row.engine.ours:
            row.operators = worker.ask({"do": "profile"}, settings.timeout)["operators"]
    except (WorkerLost, OSError, ValueError) as error:
        row.status, row.reason = "failed", f"its outputs: {error}"
    finally:
        worker.close()


@contextlib.contextmanager
def _dropping(workers: list, row: Row, worker: Worker):
    try:
        yield
    except WorkerLost as error:
        row.status, row.reason = "failed", str(error)
        workers.remove((row, worker))


@contextlib.contextmanager
def _locked(path: str | None):
    if path is None:
        yield
        return
    import fcntl

    with open(path, "a", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
