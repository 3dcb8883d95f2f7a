"""Rows for the fake engine, and cases so small that their arrays cost nothing."""

from pathlib import Path

from jvan.benchmarking.cases import Case
from jvan.benchmarking.engines import MODES, Engine
from jvan.variants import VANConfig

SCRIPT = Path(__file__).with_name("fake_worker.py")
TINY = VANConfig((4, 8, 12, 16), (1, 1, 2, 1), num_classes=7)
CASE = Case(TINY, 32, 48, 2, "infer")


def fake(name, diary, seconds=0.25, dtype="float32", needs="numpy", **task):
    options = {"name": name, "diary": str(diary), "seconds": seconds, **task}
    return Engine(name, SCRIPT, dtype, MODES, options=options, environment={"FAKE_NEEDS": needs})
