"""The worker's side of the protocol: JSON lines on standard input and output, one answer a request.

First comes the task; its answer is `ready` (or `missing`, an engine's package that is not installed).
Then {"do": "run", "times": k, "each": n} -> k times of one iteration in seconds, each the mean of n; {"do": "check",
"file": path} -> outputs in an .npz file, {"do": "profile"} -> operators by time. The end of the input ends the process. Plain Python
and numpy, of whatever version the engine's interpreter has.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time

import numpy as np


def serve(versions, build) -> None:
    """Answer requests until the input ends.

    `versions()` imports the engine and returns {package: version}; `build(task)` returns an object with
    `step()` (one iteration), `outputs()` ({name: array}) and `notes` (lines). Where a step only hands work to a GPU,
    `finish()` waits for it, and `peak_mb()` says how much of the device's memory is held.
    """
    answers = _own_stdout()
    requests = iter(sys.stdin.readline, "")
    try:
        ready, engine = _start(json.loads(next(requests)), versions, build)
        _answer(answers, ready)
        for line in requests if engine is not None else ():
            _answer(answers, _do(engine, json.loads(line)))
    except BrokenPipeError:  # the benchmark has gone
        pass
    except Exception as error:
        with contextlib.suppress(OSError):
            _answer(answers, {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]})
        raise


def load_arrays(task: dict) -> dict[str, np.ndarray]:
    """The task's weights (official names), its `input` (N, C, H, W) and, for training, its `labels` (N,)."""
    with np.load(task["arrays"], allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def split_arrays(task: dict):
    """(weights, input, labels or None) of a task."""
    arrays = load_arrays(task)
    picture, labels = arrays.pop("input"), arrays.pop("labels", None)
    return arrays, picture, labels


def _start(task: dict, versions, build):
    begin = time.perf_counter()
    try:
        found = versions()
    except ModuleNotFoundError as error:
        return {"missing": error.name.partition(".")[0]}, None
    imported = time.perf_counter()
    engine = build(task)
    engine.step()
    _finish(engine)
    times = {"import_s": imported - begin, "first_s": time.perf_counter() - imported}
    return {"ready": True, "versions": found, "notes": engine.notes, "peak_mb": _peak_mb(engine), **times}, engine


def _do(engine, request: dict) -> dict:
    if request["do"] == "run":
        each = request.get("each", 1)
        return {"times": [_seconds(engine, each) for _ in range(request["times"])], "peak_mb": _peak_mb(engine)}
    if request["do"] == "check":
        np.savez(request["file"], **engine.outputs())
        return {"file": request["file"]}
    return {"operators": engine.profile()}


def _seconds(engine, each: int) -> float:
    """The mean of `each` iterations between two looks at the clock."""
    begin = time.perf_counter()
    for _ in range(each):
        engine.step()
    _finish(engine)
    return (time.perf_counter() - begin) / each


def _finish(engine) -> None:
    if hasattr(engine, "finish"):
        engine.finish()


def _peak_mb(engine) -> float:
    """The most memory that this process has had resident, or holds of a GPU's, in MB (10^6 bytes)."""
    if hasattr(engine, "peak_mb"):
        return engine.peak_mb()
    return resident_mb()


def resident_mb() -> float:
    # getrusage would do, but a child begins with its parent's peak there.
    with contextlib.suppress(OSError, TypeError), open("/proc/self/status", encoding="ascii") as file:
        return int(re.search(r"VmHWM:\s+(\d+) kB", file.read())[1]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def _own_stdout():
    """The answers' file; what libraries print to standard output goes to standard error from here on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _answer(answers, message: dict) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()
