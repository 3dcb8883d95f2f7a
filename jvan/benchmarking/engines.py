"""The engines as rows: which worker runs them, in which precision, and what they can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

WORKERS = Path(__file__).parent / "workers"
MODES = ("infer", "train")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Engine:
    """`options` go into the worker's task, `environment` into its process; `onnx`: it runs the exported network."""

    name: str
    script: Path
    dtype: str = "float32"
    modes: tuple[str, ...] = ("infer",)
    onnx: bool = False
    options: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether it is jvan, which the others are compared with."""
        return self.name.startswith("jvan")


def _torch(name: str, channels_last: bool, compiled: bool) -> Engine:
    options = {"channels_last": channels_last, "compile": compiled}
    return Engine(name, WORKERS / "torch_worker.py", modes=MODES, options=options)


def _jittor(name: str, **row) -> Engine:
    return Engine(name, WORKERS / "jittor_worker.py", **row)


JVAN = {
    "float32": _jittor("jvan", modes=MODES, options={"optimize": True}),
    "bfloat16": _jittor("jvan-bf16", dtype="bfloat16", options={"optimize": True}),
}
PEERS = {
    engine.name: engine
    for engine in (
        _torch("torch", channels_last=False, compiled=False),
        _torch("torch-channels-last", channels_last=True, compiled=False),
        _torch("torch-compile", channels_last=True, compiled=True),
        Engine("onnxruntime", WORKERS / "onnxruntime_worker.py", onnx=True),
        Engine("openvino", WORKERS / "openvino_worker.py", onnx=True),
        Engine("openvino-bf16", WORKERS / "openvino_worker.py", "bfloat16", onnx=True),
        _jittor("jittor", modes=MODES, options={"optimize": False}, environment={"JVAN_KERNELS": "0"}),
    )
}
EXPORT = Engine("onnx", WORKERS / "onnx_worker.py")
PRODUCT = Engine("product", WORKERS / "product_worker.py")


def chosen(mode: str, dtypes, against) -> list[Engine]:
    """The engines of a case, jvan first; `against` None takes every peer that computes in one of `dtypes`."""
    ours = [JVAN[dtype] for dtype in dtypes]
    peers = list(PEERS.values()) if against is None else [PEERS[name] for name in against]
    if against is None:
        peers = [engine for engine in peers if engine.dtype in dtypes]
    return [engine for engine in (*ours, *peers) if mode in engine.modes]
