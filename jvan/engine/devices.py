"""What the device of a run can do."""

from __future__ import annotations

from ..errors import TrainingError
from ..ops.cuda.launch import on_gpu, precision_fault


def check_device(dtype: str, sync_bn: bool, processes: int) -> None:
    """TrainingError for what the device that Jittor is set to cannot do, and for a precision that is not built for it, or errs."""
    if sync_bn and processes > 1 and on_gpu():
        raise TrainingError("--sync-bn is for processes on CPUs: on GPUs it would need NCCL; leave it out")
    if dtype == "float32":
        return
    if not on_gpu():
        raise TrainingError(f"--dtype {dtype} needs a GPU: training in it is not built for the CPU; leave it out")
    reason = precision_fault(dtype)
    if reason:
        raise TrainingError(f"--dtype {dtype}: {reason}, or leave --dtype out")
