"""Three steps of `python -m tools.gpu_check`: a `jvan benchmark --device cuda` of what docs/performance.md has goals for, in the time that there is."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from jvan._say import show
from jvan.benchmarking.cases import Case, Result
from jvan.benchmarking.cuda_engines import chosen_on_cuda
from jvan.benchmarking.engines import JVAN, PEERS
from jvan.benchmarking.machine import available_cores, describe_gpus, describe_machine, random_weights
from jvan.benchmarking.report import document, lines
from jvan.benchmarking.rounds import begin, run
from jvan.benchmarking.starting import Settings
from jvan.device import DTYPES
from jvan.variants import variant_config

from .task import TINY

# Everything but torch.compile, which takes a minute for a network and a shape and so has its own step.
QUICK = ("torch", "torch-channels-last", "torch-graphs")
COMPILED = ("torch-compile", "torch-compile-graphs")
TRAINED = ("torch-channels-last", "torch-graphs")  # all engines of a case are in the device's memory together
SPARE_S = 5.0  # to end the last case's processes and to write what was found


def speed(task):
    """Inference of B0 and B2 against PyTorch without torch.compile."""
    return _measured(task, inference())


def speed_training(task):
    """Training steps of B0 and B2 against PyTorch without torch.compile."""
    return _measured(task, training())


def speed_compiled(task):
    """Both against torch.compile."""
    return _measured(task, compiled())


def inference() -> list[tuple[Case, list]]:
    """Batches 64, 1 and 256 in every precision, the most important first."""
    return [_case(arch, batch, "infer", DTYPES, QUICK) for batch in (64, 1, 256) for arch in ("van_b0", "van_b2")]


def training() -> list[tuple[Case, list]]:
    """Batch 128 in bfloat16, then float32, in which B2 takes a batch of 32."""
    cases = [_case(arch, 128, "train", ("bfloat16",), TRAINED) for arch in ("van_b0", "van_b2")]
    return [*cases, _case("van_b0", 128, "train", ("float32",), TRAINED), _case("van_b2", 32, "train", ("float32",), TRAINED)]  # fmt: skip


def compiled() -> list[tuple[Case, list]]:
    """The cases of both that have a goal."""
    first, *others = [[_case(a, n, "infer", DTYPES, COMPILED) for a in ("van_b0", "van_b2")] for n in (64, 1, 256)]
    trained = [_case(arch, 128, "train", ("bfloat16",), COMPILED) for arch in ("van_b0", "van_b2")]
    return [*first, *trained, *(case for batch in others for case in batch)]


def _case(arch: str, batch: int, mode: str, dtypes, peers) -> tuple[Case, list]:
    return Case(variant_config(arch), 224, 224, batch, mode), chosen_on_cuda(mode, dtypes, peers)


def _measured(task, plan: list[tuple[Case, list]]) -> dict:
    """The cases one after another, kept after each; those for which the time is too short are `left`, for another run.

    So is the case that is being measured when the time is over: what it has by then is told, and does not last.
    """
    plan, settings, machine = _setting(task, plan)
    known = _known(task.earlier, document([], machine, settings), [case.title for case, _ in plan])
    folder, found, longest = Path(tempfile.mkdtemp(prefix="jvan-gpu-check-")), [], 0.0
    left = [case.title for case, _ in plan if case.title not in {each["title"] for each in known}]

    def told():
        made = document(found, machine, settings)
        return {**made, "cases": [*known, *made["cases"]]}

    try:
        for case, engines in plan:
            start = time.monotonic()
            if case.title not in left or start + longest > settings.deadline:
                continue
            found.append(begin(case, engines, settings))
            _take_ceilings(found)
            run(found[-1], random_weights(case.config), settings, folder)
            longest = max(longest, time.monotonic() - start)
            if time.monotonic() < settings.deadline:
                left.remove(case.title)
            show(*lines(document(found[-1:], machine, settings)), "")
            task.save({"ok": False, "left": left, **told()})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if left:
        show(f"no time for: {'; '.join(left)}")
    made = told()
    return {"ok": not left and all(map(is_right, made["cases"])), "left": left, **made}


def _known(earlier: dict, now: dict, titles: list[str]) -> list[dict]:
    """The cases that an earlier run measured whole, if it was on the same GPU and as long."""
    gpus = [each.get("machine", {}).get("gpus") for each in (earlier, now)]
    if gpus[0] != gpus[1] or earlier.get("settings") != now["settings"]:
        return []
    whole = set(titles) - set(earlier.get("left", titles))
    return [case for case in earlier.get("cases", ()) if case["title"] in whole]


def _setting(task, plan):
    """(cases, settings, machine); a dry run has one small case in their place."""
    deadline = task.end - SPARE_S
    if not task.dry_run:
        settings = Settings(3, 0.3, available_cores(), timeout=240.0, device="cuda", deadline=deadline)
        return plan, settings, {**describe_machine(), **describe_gpus()}
    case = Case(TINY, 32, 32, 2, plan[0][0].mode)
    return (
        [(case, [JVAN["float32"], PEERS["torch"]])],
        Settings(1, 0.01, available_cores(), timeout=900.0, deadline=deadline),
        describe_machine(),
    )


def _take_ceilings(found: list[Result]) -> None:
    """What the device gives at most is measured once; the last of the results takes it from those before."""
    known = {(row.engine.name, row.engine.dtype): row for result in found for row in result.ceilings if row.measured}
    found[-1].ceilings = [known.get((row.engine.name, row.engine.dtype), row) for row in found[-1].ceilings]


def is_right(case: dict) -> bool:
    """Whether all that jvan has was measured, and no outputs differ; of a case's summary."""
    entries = case["engines"]
    ours = all(entry["status"] == "ok" for entry in entries if entry["engine"].startswith("jvan"))
    return ours and not any(entry["wrong"] for entry in entries)
