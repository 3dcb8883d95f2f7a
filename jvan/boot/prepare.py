"""Makes `import jittor` work on this machine: called once by `import jvan`, before Jittor, without importing it.

Jittor reads its settings from the environment, so that is where they go, and children inherit them;
a variable that the user set is never touched. What cannot be mended is refused in one line by the
hook (`import_hook.py`) when Jittor is imported: everything that needs no Jittor goes on working.
"""

from __future__ import annotations

import sys

from .._say import warn
from . import import_hook
from .cuda import check_cuda
from .onednn import check_onednn
from .python import check_python_config
from .settings import MENDED, OK, Finding, set_default

_findings: list[Finding] | None = None


def prepare() -> list[Finding]:
    """Mend what can be mended; the findings, the same ones at every later call. Never raises, never imports Jittor.

    Warns where Jittor will be slow, and where it was imported before jvan.
    """
    global _findings
    if _findings is not None:
        return _findings
    late = [name for name in ("jittor", "jittor_utils") if name in sys.modules]
    _findings = [check() for check in (check_torch, check_python_config, check_cuda, check_onednn)]
    for finding in _findings:
        if finding.aloud:
            warn(f"{finding.name}: {finding.what}; to mend it: {finding.fix}")
    if late:
        warn(f"{late[0]} was imported before jvan, too late for what jvan prepares: put `import jvan` first")
    else:
        import_hook.install()
    return _findings


def check_torch() -> Finding:
    """Keep Jittor from importing an installed torch, whose oneDNN clashes with its own in one process."""
    if set_default("FIX_TORCH_ERROR", "0"):
        return Finding("torch", MENDED, "Jittor would import it where it is installed; FIX_TORCH_ERROR set to 0")
    return Finding("torch", OK, "FIX_TORCH_ERROR is set")
