"""Depthwise convolutions on one thread, jvan's kernel and Jittor's own: python tools/measure/depthwise_speed.py [all]."""

import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"
import jvan  # noqa: F401  before Jittor, whose environment it prepares  # isort: skip
import jittor as jt
import numpy as np

from jvan.ops.depthwise import depthwise_fused, depthwise_ref

# pictures, height and width, channels, size of the kernel, dilation
CASES = [
    (1, 56, 32, 5, 1), (1, 56, 32, 7, 3), (1, 28, 512, 3, 1), (1, 14, 160, 5, 1), (1, 14, 160, 7, 3), (1, 7, 256, 7, 3),
    (1, 7, 1024, 3, 1), (1, 1, 256, 7, 3), (1, 14, 163, 7, 3), (16, 56, 32, 7, 3), (16, 14, 640, 3, 1), (16, 7, 256, 7, 3),
    (16, 7, 1024, 3, 1), (64, 14, 160, 7, 3),
]  # fmt: skip


def best_of(run, seconds=0.5):
    """Microseconds of the fastest run, once everything is compiled."""
    run(), run()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return 1e6 * min(times)


def measure(operator, batch, side, chans, size, dilation):
    """Forward, and forward with the gradients of input, weight and bias."""
    rng = np.random.RandomState(0)
    shapes = (batch, side, side, chans), (chans, 1, size, size), (chans,)
    x, weight, bias = variables = [jt.array(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]
    dy = jt.array(rng.standard_normal(shapes[0]).astype(np.float32))
    jt.sync([*variables, dy])

    def forward():
        depthwise_of(x).sync()

    def with_gradients():
        jt.sync(jt.grad((depthwise_of(x) * dy).sum(), variables))

    depthwise_of = lambda x: operator(x, weight, bias, dilation)  # noqa: E731
    return best_of(forward), best_of(with_gradients)


print(
    "| N, H = W, C, K, dilation | forward: jvan | Jittor | ratio | with gradients: jvan | Jittor | ratio |\n|-|-|-|-|-|-|-|"
)
for case in CASES if sys.argv[1:] == ["all"] else CASES[3:4]:
    (ours, our_gradients), (theirs, their_gradients) = (measure(op, *case) for op in (depthwise_fused, depthwise_ref))
    print(
        f"| {', '.join(map(str, case))} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f}"
        f" | {our_gradients:.0f} | {their_gradients:.0f} | {our_gradients / their_gradients:.2f} |",
        flush=True,
    )
