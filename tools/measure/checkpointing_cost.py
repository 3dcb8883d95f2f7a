"""`python tools/measure/checkpointing_cost.py [ARCH …]`: a training step of 16 pictures with and without gradient checkpointing, on Linux."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNS, STEPS = 3, 4  # processes of each kind, in turns; timed steps of each


def measure(arch: str, checkpointing: bool) -> None:
    """Print what the process grows by from a tiny step to a whole one, in MB, and the median of its steps in seconds."""
    import jvan  # isort: skip  it prepares Jittor
    import jittor as jt
    from jittor import nn

    model = jvan.create_model(arch, num_classes=1000)
    model.set_grad_checkpointing(checkpointing)
    optimizer = jt.optim.SGD(model.parameters(), 1e-4)

    def step(size, batch):
        begun = time.perf_counter()
        x, labels = jt.random((batch, 3, size, size)), jt.zeros((batch,), dtype="int32")
        optimizer.step(nn.cross_entropy_loss(model(x), labels))
        jt.sync_all(True)
        return time.perf_counter() - begun

    step(64, 2)  # compiles, and has the optimizer's memory
    before = _resident_mb("VmRSS")
    step(224, 16)
    print("found", _resident_mb("VmHWM") - before, statistics.median(step(224, 16) for _ in range(STEPS)))


def _resident_mb(kind: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(kind)) / 1000


def _found(arch: str, kind: str) -> list[float]:
    command = [sys.executable, __file__, arch, kind]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [float(word) for word in printed.rsplit("found", 1)[1].split()]


def main(archs: list[str]) -> None:
    print("| | MB without | with | ratio | s without | with | ratio, of each turn |\n|-|-|-|-|-|-|-|")
    for arch in archs or ["van_b0", "van_b2"]:
        turns = [(_found(arch, "without"), _found(arch, "with")) for _ in range(RUNS)]
        without, with_ = ([statistics.median(column) for column in zip(*side)] for side in zip(*turns))
        ratios = ", ".join(f"{b[1] / a[1]:.2f}" for a, b in turns)
        print(f"| {arch} | {without[0]:.0f} | {with_[0]:.0f} | {with_[0] / without[0]:.2f}", end="")
        print(f" | {without[1]:.2f} | {with_[1]:.2f} | {ratios} |", flush=True)


if __name__ == "__main__":
    if sys.argv[2:] in (["with"], ["without"]):
        measure(sys.argv[1], sys.argv[2] == "with")
    else:
        main(sys.argv[1:])
