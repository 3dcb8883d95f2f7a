"""Starts the engines of a case, each in its own process."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from .cases import Result, Row
from .engines import EXPORT, Engine
from .process import Worker, WorkerLost

EXTRA = "pip install '.[bench]', or --python PATH"


@dataclass(frozen=True)
class Settings:
    """`pythons`: the peers' interpreters by engine, "" for all others; `lock`: a file to lock while a round is timed.

    `tf32`: whether every engine on a GPU may round the factors of float32 products to TF32; `deadline`: the
    time.monotonic() after which no answer is waited for.
    """

    rounds: int = 5
    seconds: float = 1.0
    threads: int = 1
    timeout: float = 1800.0
    pythons: dict[str, str] = field(default_factory=dict)
    lock: str | None = None
    profile: bool = False
    device: str = "cpu"
    tf32: bool = False
    deadline: float = math.inf

    def patience(self) -> float:
        """Seconds that an engine may take for an answer from now on."""
        return max(0.0, min(self.timeout, self.deadline - time.monotonic()))

    def python(self, engine: Engine) -> str:
        """jvan and Jittor run in this process's interpreter unless another is named for them; torch's exports."""
        default = self.pythons.get("", sys.executable)
        if engine.in_jittor:
            default = sys.executable
        if engine is EXPORT:
            default = self.pythons.get("torch", default)
        return self.pythons.get(engine.peer or engine.name, default)


def start(result: Result, task: dict, settings: Settings, folder: Path, stack, tell) -> list[tuple[Row, Worker]]:
    """The workers that are ready, each with its row.

    On the CPU one after another, so that each has it to itself; on a GPU, whose time is dear, all at once.
    """
    no_onnx = None
    if any(row.engine.onnx for row in result.rows):
        tell("exporting the network to ONNX")
        task["onnx"] = str(folder / "network.onnx")
        export = Row(EXPORT)
        with contextlib.ExitStack() as brief:
            _is_ready(export, _begin(export, task, settings, folder, brief), settings)
        no_onnx = export.reason and f"the export to ONNX: {export.reason}"
    rows = []
    for row in (*result.rows, *(row for row in result.ceilings if not row.measured)):
        if no_onnx and row.engine.onnx:
            row.status, row.reason = export.status, no_onnx
        else:
            rows.append(row)
    workers = []
    for group in [rows] if settings.device == "cuda" else [[row] for row in rows]:
        tell(f"starting {', '.join(row.engine.name for row in group)}")
        begun = [(row, _begin(row, task, settings, folder, stack)) for row in group]
        workers += [(row, worker) for row, worker in begun if _is_ready(row, worker, settings)]
    return workers


def _begin(row: Row, task: dict, settings: Settings, folder: Path, stack) -> Worker | None:
    """A process that has its task; None, and the row says why, where there is none."""
    engine = row.engine
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(settings.threads))
    try:
        python, log = settings.python(engine), folder / f"{engine.name}.log"
        worker = stack.enter_context(Worker(python, engine.script, log, {**threads, **engine.environment}))
    except WorkerLost as error:
        row.status, row.reason = "failed", str(error)
        return None
    worker.send({**task, "dtype": engine.dtype, **engine.options})
    return worker


def _is_ready(row: Row, worker: Worker | None, settings: Settings) -> bool:
    """Wait until the engine has made its first iteration; where it does not, the row says why."""
    if worker is None:
        return False
    try:
        row.ready = worker.answer(settings.patience())
    except WorkerLost as error:
        row.status, row.reason = "failed", str(error)
        return False
    if "missing" in row.ready:
        row.status, row.reason = "missing", f"{row.ready['missing']} is not installed ({EXTRA})"
        return False
    return True
