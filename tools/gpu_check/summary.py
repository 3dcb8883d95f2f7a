"""What the steps of `python -m tools.gpu_check` found, together: one summary, and one file that holds everything."""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections import Counter
from pathlib import Path

from .verdicts import Verdict, verdicts

NAME = "summary.json"
KEPT = (".json", ".txt", ".log")


def write(out: Path, results: dict[str, str]) -> dict:
    """OUT/summary.json: results by step, those of earlier runs too; the machine; the verdicts. Returned as well."""
    found = {path.stem: _read(path) for path in sorted(out.glob("*.json")) if path.name != NAME}
    machine = {
        key: found.get("environment", {}).get(key)
        for key in ("gpu", "reason", "nvcc version", "python", "numpy", "jittor")
    }
    judged = verdicts({step: document for step, document in found.items() if not document.get("dry_run")})
    summary = {
        "steps": {**_read(out / NAME).get("steps", {}), **results},
        "machine": machine,
        "verdicts": [verdict._asdict() for verdict in judged],
    }
    (out / NAME).write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return summary


def lines(summary: dict, results: dict[str, str]) -> list[str]:
    """The verdicts that something was measured for, how many there are of each kind, and this run's results."""
    judged = [Verdict(**verdict) for verdict in summary["verdicts"]]
    counted = Counter(verdict.word for verdict in judged)
    said = [verdict.line for verdict in judged if verdict.value is not None]
    said.append(f"goals: {', '.join(f'{counted[word]} {word}' for word in ('met', 'missed', 'open'))}")
    return [*said, *(f"{step}: {result}" for step, result in results.items())]


def pack(out: Path, file: Path) -> None:
    """All documents, what was printed and what was said, as one .tar.gz; never half of it under that name."""
    part = file.with_name(f"{file.name}.part")
    with tarfile.open(part, "w:gz") as archive:
        for path in sorted(out.iterdir()):
            if path.suffix in KEPT:
                archive.add(path, path.name)
    part.replace(file)


def _read(path: Path) -> dict:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return {}
