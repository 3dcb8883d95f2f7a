"""Runs a case: every engine started and warmed, then timed in turns, then asked for its outputs."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from ..files import lock
from ..structure import stages, unit
from ..variants import VANConfig
from .cases import Case, Result, Row
from .cuda_engines import ceilings_on_cuda
from .engines import PRODUCT, Engine
from .machine import random_pictures
from .process import Worker, WorkerLost
from .starting import Settings, start

MOST = 1000  # iterations of a round
BATCH_S = 0.02  # on a GPU, of the iterations between two looks at the clock, so that waiting for it weighs nothing


def begin(case: Case, engines: list[Engine], settings: Settings = Settings()) -> Result:  # noqa: B008
    """A case before its first measurement, with the rows of what the settings' device gives at most."""
    ceilings = [PRODUCT]
    if settings.device == "cuda":
        ceilings = ceilings_on_cuda(dict.fromkeys(engine.dtype for engine in engines if engine.ours))
    rows = ([Row(engine) for engine in engines], [Row(engine) for engine in ceilings])
    return Result(case, *rows, device=settings.device, tf32=settings.tf32)


def run(result: Result, weights: dict, settings: Settings, folder: Path, tell=lambda line: None) -> None:
    """Fill in `result`, as far as it comes; a worker that fails is its row's reason and stops no other."""
    arrays = folder / "arrays.npz"
    case = result.case
    np.savez(arrays, **weights, **random_pictures(case.config, case.batch_size, case.height, case.width))
    task = {"arrays": str(arrays), "config": case.config.to_dict(), "mode": case.mode, "threads": settings.threads}
    task.update(device=settings.device, tf32=settings.tf32, stages=described(case.config))
    with contextlib.ExitStack() as stack:
        workers = start(result, task, settings, folder, stack, tell)
        _measure(workers, settings, tell)
        for row, worker in workers:
            _finish(row, worker, settings, folder, compared=row not in result.ceilings)


def described(config: VANConfig) -> list[dict]:
    """The stages for engines that have no jvan, as JSON has them: sizes, and the layers of the blocks' attention unit."""
    return [
        {**stage._asdict(), "unit": [row._asdict() for row in unit(stage.chans, config)]} for stage in stages(config)
    ]


def _measure(workers: list[tuple[Row, Worker]], settings: Settings, tell) -> None:
    """Warm up, then time round after round, each begun by another engine; who fails drops out of `workers`."""
    plans = {}
    for row, worker in list(workers):
        tell(f"warming {row.engine.name}")
        with _dropping(workers, row, worker):
            plans[row.engine.name] = _plan(row, worker, settings)
    for number in range(settings.rounds):
        tell(f"round {number + 1} of {settings.rounds}")
        with _locked(settings.lock):
            for row, worker in rotated(workers, number):
                with _dropping(workers, row, worker):
                    count, each = plans[row.engine.name]
                    # The first one finds the caches full of another engine's data and is not counted.
                    row.rounds.append(_times(row, worker, count + 1, each, settings)[1:])


def rotated(items: list, number: int) -> list:
    """The items in order, begun at the `number`-th, around the end."""
    at = number % max(len(items), 1)
    return items[at:] + items[:at]


def _plan(row: Row, worker: Worker, settings: Settings) -> tuple[int, int]:
    """(how often the clock is read in a round, iterations between two readings) by what warming up takes."""
    seconds = [t for _ in range(2) for t in _times(row, worker, 1, 1, settings)][-1]
    if settings.device != "cuda":
        return _iterations(seconds, settings.seconds), 1
    each = _iterations(seconds, BATCH_S)
    (seconds,) = _times(row, worker, 1, each, settings)  # an iteration's launches overlap with the one before
    each = _iterations(seconds, BATCH_S)
    return _iterations(seconds * each, settings.seconds), each


def _iterations(seconds_each: float, seconds: float) -> int:
    return max(1, min(MOST, round(seconds / max(seconds_each, 1e-9))))


def _times(row: Row, worker: Worker, count: int, each: int, settings: Settings) -> list[float]:
    answer = worker.ask({"do": "run", "times": count, "each": each}, settings.patience())
    row.peak_mb = answer["peak_mb"]
    return answer["times"]


def _finish(row: Row, worker: Worker, settings: Settings, folder: Path, compared: bool) -> None:
    """The outputs, and the profile of jvan; a worker that fails here keeps its times but is not "ok"."""
    row.status = "ok"
    try:
        if not compared:
            return
        file = folder / f"{row.engine.name}.npz"
        worker.ask({"do": "check", "file": str(file)}, settings.patience())
        with np.load(file, allow_pickle=False) as outputs:
            row.outputs = {name: outputs[name] for name in outputs.files}
        if settings.profile and row.engine.ours:
            row.operators = worker.ask({"do": "profile"}, settings.patience())["operators"]
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
    with open(path, "a", encoding="ascii") as file:
        lock(file, must=True)
        yield
