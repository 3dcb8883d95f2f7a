"""What the machine has, and why its GPU is used or not: the first step of `python -m tools.gpu_check`.

What jvan knows before Jittor's import is in a function, as that import may fail.
"""

from __future__ import annotations

import contextlib
import platform

from jvan import children
from jvan._say import show
from jvan.boot.cuda import check_cuda, check_gpus
from jvan.boot.onednn import check_onednn
from jvan.boot.python import check_compiler, check_headers
from jvan.boot.settings import OK, setting

GPU_QUERY = "name,driver_version,memory.total,compute_cap,clocks.max.sm,clocks.max.mem"


def before_jittor() -> dict:
    """What the doctor's checks find, a line each, and the C++ compiler's version."""
    checks = (lambda: check_cuda(assembled=True), check_gpus, check_headers, check_compiler, check_onednn)
    findings = [check() for check in checks]
    lines = {f.name: f.what if f.status == OK else f"{f.status}: {f.what}" + f"; {f.fix}" * bool(f.fix) for f in findings}  # fmt: skip
    compiler = _said([setting("cc_path") or "g++", "--version"]).partition("\n")[0]
    return {"ok": False, "reason": "Jittor does not start", "findings": lines, "g++ version": compiler}


def environment(task) -> dict:
    """All of it; `reason` says why the GPU is not used, and is empty where it is."""
    import jittor as jt
    import numpy as np

    from jvan.device import cuda_fault

    found = {**before_jittor(), "python": platform.python_version(), "numpy": np.__version__, "jittor": jt.__version__}
    found["nvcc"], found["nvcc flags"] = str(jt.flags.nvcc_path), str(jt.flags.nvcc_flags)
    found["cuda"], found["cuda archs"] = bool(jt.has_cuda), str(getattr(jt.flags, "cuda_archs", "none"))
    found["gpu"] = _said(["nvidia-smi", f"--query-gpu={GPU_QUERY}", "--format=csv,noheader"])
    found["nvcc version"] = _said([found["nvcc"] or "nvcc", "--version"])
    found["reason"] = _reason(cuda_fault(), found)
    for key, value in found.items():
        for part, text in value.items() if isinstance(value, dict) else ((key, value),):
            show(f"{part}: {text}")
    return {**found, "ok": not found["reason"] or task.dry_run}


def _reason(fault: str, found: dict) -> str:
    """What the trial found, and where Jittor has no CUDA at all what became of it before."""
    if not fault or found["cuda"]:
        return fault
    return f"{fault}; CUDA: {found['findings']['CUDA']}; GPU: {found['findings']['GPU']}"


def _said(command: list[str]) -> str:
    with contextlib.suppress(OSError, children.SubprocessError):
        return children.run_tool(command, capture_output=True, text=True, timeout=60).stdout.strip()
    return ""
