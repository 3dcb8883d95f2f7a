"""The time of a CUDA operator on its own: called over and over between two CUDA events, on maps that the cache cannot hold."""

from __future__ import annotations

import statistics
import time

import jittor as jt

from jvan.ops import _jit
from jvan.ops.cuda import launch as cuda
from jvan.ops.cuda.backend import backend
from jvan.ops.cuda.operators import Operator, types_of

from .calls import Call

ROUNDS = 4  # of which the first is not counted
CACHE = 256e6  # bytes that pass between two uses of a map: five times an H100's second-level cache

# The calls with negative numbers keep the device busy while the event is recorded, so that no launch is waited for.
SOURCE = """
cudaEvent_t begin, end;
jvan::check(cudaEventCreate(&begin), "timed");
jvan::check(cudaEventCreate(&end), "timed");
{maps}
for (int64_t round = 0; round < {times}_shape0; round++) {{
  for (int64_t call = -int64_t(turns); call < int64_t(calls); call++) {{
    if (call == 0) jvan::check(cudaEventRecord(begin, 0), "timed");
    const int64_t turn = (call + int64_t(turns)) % int64_t(turns);
{turns}
    {call}
  }}
  jvan::check(cudaEventRecord(end, 0), "timed");
  jvan::check(cudaEventSynchronize(end), "timed");
  float milliseconds = 0;
  jvan::check(cudaEventElapsedTime(&milliseconds, begin, end), "timed");
  const float seconds = milliseconds / 1e3f / float(calls);
  jvan::check(cudaMemcpy({times}_p + round, &seconds, sizeof(float), cudaMemcpyHostToDevice), "timed");
}}
jvan::check(cudaEventDestroy(begin), "timed");
jvan::check(cudaEventDestroy(end), "timed");
"""


def turns_of(moved: int) -> int:
    """Among how many maps a call that moves so many bytes takes turns."""
    return max(2, round(CACHE / moved + 0.5))


def source_of(operator: Operator) -> str:
    """C++ that times an operator whose maps (T) each hold `turns` maps one after another, and writes seconds a call to its last output."""
    maps = [f"in{i}" for i, letter in enumerate(operator.inputs) if letter == "T"]
    maps += [f"out{i}" for i, letter in enumerate(operator.outputs) if letter == "T"]
    whole = [
        f"auto* {v}_all = {v}_p; const int64_t {v}_first = {v}_shape0 / int64_t(turns), {v}_step = int64_t({v}_size);"
        for v in maps
    ]
    one = [f"    auto* {v}_p = {v}_all + turn * {v}_step; const int64_t {v}_shape0 = {v}_first;" for v in maps]
    times = f"out{len(operator.outputs)}"
    return SOURCE.format(maps="\n".join(whole), turns="\n".join(one), call=operator.source, times=times)


def begin(call: Call, turns, calls):
    """Seconds a call, (ROUNDS,), which Jittor has yet to compute; float32 parameters."""
    _, operator, _, inputs, shapes, numbers = call
    sizes = {f"in{i}_size": x.numel() // turns for i, x in enumerate(inputs) if operator.inputs[i] == "T"}
    for i, shape in enumerate(shapes):
        if operator.outputs[i] == "T":
            sizes[f"out{i}_size"] = _numel(shape) // turns
    dtypes = [*types_of(operator.outputs, str(inputs[0].dtype), "float32"), "float32"]
    shapes = [*shapes, (ROUNDS,)]
    numbers = {**numbers, **sizes, "turns": turns, "calls": calls}
    return _jit.run_cuda_kernel(operator.header, source_of(operator), inputs, shapes, dtypes, numbers)[-1]


def seconds_of(call: Call, turns=1) -> float:
    """The median time of a call; emulated, the host's. RuntimeError where the kernel refuses."""
    if not backend().has_clock:
        start = time.perf_counter()
        jt.sync(cuda.run(call.name, call.inputs, call.outputs, parameter="float32", **call.numbers))
        return time.perf_counter() - start
    return statistics.median(begin(call, turns, max(turns, 20)).numpy()[1:].tolist())


def _numel(shape) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count
