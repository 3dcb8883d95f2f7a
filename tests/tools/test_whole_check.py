"""`python -m tools.gpu_check --dry-run`: every step's logic.

Nearly all of its time is the compilation of operators, which the tests of networks and of training in the files before this
one have compiled where the whole suite is run.
"""

import json
import tarfile

from jvan.ops.cuda.verify import CHECKS
from tools.gpu_check import gpu_check
from tools.gpu_check.bandwidth import KERNELS, OF_STEM
from tools.gpu_check.steps import STEPS


def test_dry_run(out, capfd):
    """Every step, one after another, and what they found."""
    packed = out / "found.tar.gz"
    status = gpu_check.main(["--dry-run", "--limit", "900", "--out", str(out), "--pack", str(packed)])
    printed = capfd.readouterr().out
    assert status == 0, printed
    found = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    summary = found.pop("summary")
    assert list(summary["steps"]) == list(gpu_check.STEPS) == list(STEPS) and set(found) == set(STEPS)
    assert all(document["ok"] and document["dry_run"] for document in found.values())
    assert "goals: 0 met, 0 missed, 27 open" in printed, "an emulator's numbers are no GPU's"
    with tarfile.open(packed) as archive:
        assert {f"{step}.json" for step in (*STEPS, "summary")} < set(archive.getnames())
    for step, check in FOUND.items():
        check(found[step])


def check_kernels(found):
    assert {row["family"] for row in found["rows"]} == set(CHECKS) and found["worst"] <= 1


def check_parity(found):
    rows = found["results"]["tiny"]
    assert len(rows) == 7 and all(0 < row["error"] <= row["allowed"] for row in rows.values())


def check_training(found):
    assert found["runs"]["float16"]["same bits"] and found["runs"]["float16"]["resumed differs"] == 0


def check_accuracy(found):
    assert all(found["answers"][dtype]["of"] == 4 for dtype in ("cpu", "float32", "float16", "bfloat16"))


def check_bandwidth(found):
    assert [(row["kernel"], row["size"], row["dilation"]) for row in found["rows"]] == [*OF_STEM, *KERNELS]
    assert found["copy_bytes_per_second"] == max(found["copies"][name] for name in ("copy", "driver_copy"))
    assert all(row["microseconds"] > 0 for row in found["rows"])


def check_speed(found):
    """On the CPU, where PyTorch may be missing."""
    for case in found["cases"]:
        ours, torch = case["engines"]
        assert ours["status"] == "ok" and ours["median_ms"] > 0 and torch["status"] in ("ok", "missing")


FOUND = {
    "jittor": lambda found: _all(found["errors"][name] < 5e-3 for name in ("permute", "product", "casts")),
    "kernels": check_kernels,
    "parity": check_parity,
    "training": check_training,
    "accuracy": check_accuracy,
    "learning": lambda found: _all(dtype in found["top1"] for dtype in ("float32", "float16", "bfloat16")),
    "bandwidth": check_bandwidth,
    **dict.fromkeys(("speed", "speed-training", "speed-compiled"), check_speed),
}


def _all(conditions):
    assert all(conditions)
