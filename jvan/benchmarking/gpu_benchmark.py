"""The last step of `python -m jvan.gpu_check`: a short `jvan benchmark --device cuda`, what matters most first."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from ..variants import VANConfig, variant_config
from .cases import Case, Result
from .cuda_engines import DTYPES as INFERENCE
from .cuda_engines import chosen_on_cuda
from .engines import JVAN, PEERS
from .machine import available_cores, describe_gpus, describe_machine, random_weights
from .report import document, text
from .rounds import begin, run
from .starting import Settings

# torch.compile takes the most of a minute for a network and a shape, so it comes where all else has been measured.
QUICK = ("torch", "torch-channels-last", "torch-graphs")
TRAINED = ("torch-channels-last", "torch-graphs")  # all engines of a case are in the device's memory together
COMPILED = ("torch-compile", "torch-compile-graphs")
LAST_START_S = 190.0  # with an engine's 80 s, before gpu_check's 280
TINY = VANConfig((8, 16, 24, 32), (1, 1, 1, 1), num_classes=10)


def benchmark(dry_run):
    """Batches 1, 64 and 256 in inference and 128 in training (B2 in float32: 32), of B0 and B2; a peer that is missing or fails is a line."""
    settings = Settings(3, 0.3, available_cores(), timeout=80.0, device="cuda")
    if dry_run:
        settings = Settings(1, 0.01, available_cores(), timeout=900.0)
    machine = {**describe_machine(), **({} if dry_run else describe_gpus())}
    end = time.monotonic() + (900.0 if dry_run else LAST_START_S)
    folder, found, left = Path(tempfile.mkdtemp(prefix="jvan-gpu-check-")), [], []
    try:
        for case, engines in [_dry_case()] if dry_run else plan():
            if time.monotonic() > end:
                left.append(case.title)
                continue
            found.append(begin(case, engines, settings))
            _take_ceilings(found)
            run(found[-1], random_weights(case.config), settings, folder)
            print(text(document(found[-1:], machine, settings)), "\n", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if left:
        print(f"no time for: {'; '.join(left)}", flush=True)
    return {"ok": bool(found) and all(map(is_right, found)), "left": left, **document(found, machine, settings)}


def plan() -> list[tuple[Case, list]]:
    """What is measured, the most important first, and last what torch.compile makes of it."""
    b0, b2 = networks = [variant_config(arch) for arch in ("van_b0", "van_b2")]
    inference = [_case(config, batch, "infer", INFERENCE, QUICK) for batch in (64, 1, 256) for config in networks]
    training = [_case(config, 128, "train", ("bfloat16",), TRAINED) for config in networks]
    single = [_case(b0, 128, "train", ("float32",), TRAINED), _case(b2, 32, "train", ("float32",), TRAINED)]
    compiled = [_case(config, 64, "infer", INFERENCE, COMPILED) for config in networks]
    compiled += [_case(config, 128, "train", ("bfloat16",), COMPILED) for config in networks]
    return [*inference[:2], *training, *inference[2:], *single, *compiled]


def _case(config: VANConfig, batch: int, mode: str, dtypes, peers) -> tuple[Case, list]:
    return Case(config, 224, 224, batch, mode), chosen_on_cuda(mode, dtypes, peers)


def _take_ceilings(found: list[Result]) -> None:
    """What the device gives at most is measured once; the last of the results takes it from those before."""
    known = {(row.engine.name, row.engine.dtype): row for result in found for row in result.ceilings if row.measured}
    found[-1].ceilings = [known.get((row.engine.name, row.engine.dtype), row) for row in found[-1].ceilings]


def _dry_case() -> tuple[Case, list]:
    return Case(TINY, 32, 32, 2, "infer"), [JVAN["float32"], PEERS["torch"]]


def is_right(result: Result) -> bool:
    """Whether all that jvan has was measured, and no outputs differ."""
    entries = result.summary()["engines"]
    ours = all(entry["status"] == "ok" for entry in entries if entry["engine"].startswith("jvan"))
    return ours and not any(entry["wrong"] for entry in entries)
