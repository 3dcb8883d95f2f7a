"""What `python -m tools.gpu_check` found, against the goals: a verdict each, from the steps' documents."""

from __future__ import annotations

from typing import NamedTuple

from jvan.benchmarking.cuda_engines import SUFFIX
from jvan.device import DTYPES

NETWORKS = ("van_b0", "van_b2")
# (network, mode, batch, precisions), at 224×224
SPEED = (
    *((arch, "infer", batch, DTYPES) for arch in NETWORKS for batch in (1, 64, 256)),
    *((arch, "train", 128, ("bfloat16",)) for arch in NETWORKS),
)
PYTORCH = ("torch-channels-last", "torch-graphs", "torch-compile", "torch-compile-graphs")
MODES = {"infer": ("torch", *PYTORCH), "train": PYTORCH}  # without all of which the fastest is not known
OF_COPY, BATCH, HEIGHTS = 0.7, 64, (56, 28)
LOGITS = {"plain float32": 1e-3, "folded float32": 1e-3, "folded float16": 2e-2}


class Verdict(NamedTuple):
    """`met`: True, False, or None where it is open: nothing or not all that it takes was measured; `note` says more."""

    goal: str
    bound: str
    value: float | None
    met: bool | None
    note: str = ""

    @property
    def word(self) -> str:
        return {True: "met", False: "missed", None: "open"}[self.met]

    @property
    def line(self) -> str:
        value = "not measured" if self.value is None else f"{self.value:.3g}"
        return f"{self.word}: {self.goal}: {value} ({self.bound})" + f"; {self.note}" * bool(self.note)


def verdicts(found: dict[str, dict]) -> list[Verdict]:
    """One for each goal, from {step: its document}, whatever of them there is."""
    return [*_speeds(found), *_bandwidths(found.get("bandwidth", {})), *_parities(found.get("parity", {}))]


def _speeds(found) -> list[Verdict]:
    cases = [case for step, document in found.items() if step.startswith("speed") for case in document.get("cases", ())]
    cases = [case for case in cases if case["size"] == [224, 224]]
    return [_speed(cases, *goal, dtype) for *goal, dtypes in SPEED for dtype in dtypes]


def _speed(cases, arch, mode, batch, dtype) -> Verdict:
    """jvan's time over that of PyTorch's fastest mode, each mode's ratio from the case in which it ran beside jvan."""
    same = [case for case in cases if (case["arch"], case["mode"], case["batch_size"]) == (arch, mode, batch)]
    entries = [entry for case in same for entry in case["engines"] if entry["dtype"] == dtype]
    ratios, faults = _ratios(entries, f"jvan{SUFFIX[dtype]}", SUFFIX[dtype])
    goal, bound = f"{arch}, {mode}, batch {batch}, {dtype}: jvan ÷ PyTorch's fastest", "below 1"
    if not ratios:
        return Verdict(goal, bound, None, None, "; ".join(faults))
    fastest = max(ratios, key=ratios.get)
    missing = [name for name in MODES[mode] if name not in ratios]
    notes = [*faults, fastest, *([f"without {', '.join(missing)}"] if missing else [])]
    is_open = ratios[fastest] < 1 and (faults or missing)
    return Verdict(goal, bound, ratios[fastest], None if is_open else ratios[fastest] < 1, "; ".join(notes))


def _ratios(entries, ours, suffix) -> tuple[dict[str, float], list[str]]:
    """({PyTorch's mode: jvan's time over its}, what is wrong with jvan); of modes that ended well and computed the same."""
    ratios, faults = {}, []
    for entry in entries:
        right = entry["status"] == "ok" and not entry["wrong"]
        if entry["engine"] == ours and not right:
            faults.append(f"jvan: {entry['reason'] or 'wrong outputs'}")
        if right and entry["against"] == ours and entry["engine"].startswith("torch"):
            name = entry["engine"].removesuffix(suffix)
            ratios[name] = max(entry["ratio"], ratios.get(name, 0.0))
    return ratios, faults


def _bandwidths(document) -> list[Verdict]:
    """The worst of each depthwise kernel's shapes."""
    groups = {}
    for row in document.get("rows", ()):
        pictures, height = row["shape"][:2]
        if row["kernel"].startswith("depthwise") and row["tile"] is None and pictures == BATCH and height in HEIGHTS:
            groups.setdefault((row["kernel"], row["size"], row["dilation"], row["dtype"]), []).append(row)
    bound = f"at least {OF_COPY:g}"
    if not groups:
        return [Verdict("depthwise kernels: part of a copy's bandwidth", bound, None, None)]
    found = []
    for (kernel, size, dilation, dtype), rows in groups.items():
        worst = min(rows, key=lambda row: row.get("of_copy", 0.0))
        value = worst.get("of_copy", 0.0)
        goal = f"{kernel} {size}×{size}, dilation {dilation}, {dtype}: part of a copy's bandwidth"
        found.append(Verdict(goal, bound, value, value >= OF_COPY, worst.get("fault") or f"at {worst['shape']}"))
    return found


def _parities(document) -> list[Verdict]:
    results, found = document.get("results", {}), []
    for arch in NETWORKS:
        for name, most in LOGITS.items():
            error = results.get(arch, {}).get(name, {}).get("error")
            met = None if error is None else error <= most
            found.append(Verdict(f"{arch}, {name}: logits against the CPU's", f"at most {most:g}", error, met))
    return found
