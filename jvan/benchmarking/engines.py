"""The engines as rows: which worker runs them, in which precision, and what they can do. On a GPU: cuda_engines."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

WORKERS = Path(__file__).parent / "workers"
MODES = ("infer", "train")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Engine:
    """`options` go into the worker's task, `environment` into its process; `onnx`: it runs the exported network.

    `peer`: what the command line calls it, where that is not its name.
    """

    name: str
    script: Path
    dtype: str = "float32"
    modes: tuple[str, ...] = ("infer",)
    onnx: bool = False
    options: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    peer: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is jvan, which the others are compared with."""
        return self.name.startswith("jvan")

    @property
    def in_jittor(self) -> bool:
        """Whether it runs where jvan does, and not in a peer's interpreter."""
        return self.script.name in ("jittor_worker.py", "cuda_ceiling_worker.py")


def torch(name: str, channels_last: bool, compiled: bool, **row) -> Engine:
    options = {"channels_last": channels_last, "compile": compiled, **row.pop("options", {})}
    return Engine(name, WORKERS / "torch_worker.py", **{"modes": MODES, **row}, options=options)


def jittor(name: str, **row) -> Engine:
    return Engine(name, WORKERS / "jittor_worker.py", **row)


def plain_jittor(**row) -> Engine:
    options, environment = {"optimize": False}, {"JVAN_KERNELS": "0"}
    return jittor("jittor", modes=MODES, options=options, environment=environment, **row)


JVAN = {
    "float32": jittor("jvan", modes=MODES, options={"optimize": True}),
    "bfloat16": jittor("jvan-bf16", dtype="bfloat16", options={"optimize": True}),
}
PEERS = {
    engine.name: engine
    for engine in (
        torch("torch", channels_last=False, compiled=False),
        torch("torch-channels-last", channels_last=True, compiled=False),
        torch("torch-compile", channels_last=True, compiled=True),
        Engine("onnxruntime", WORKERS / "onnxruntime_worker.py", onnx=True),
        Engine("openvino", WORKERS / "openvino_worker.py", onnx=True),
        Engine("openvino-bf16", WORKERS / "openvino_worker.py", "bfloat16", onnx=True),
        plain_jittor(),
    )
}
EXPORT = Engine("onnx", WORKERS / "onnx_worker.py")
PRODUCT = Engine("product", WORKERS / "product_worker.py", options={"size": 2048})


def chosen(mode: str, dtypes, against) -> list[Engine]:
    """The engines of a case, jvan first; `against` None takes every peer that computes in one of `dtypes`."""
    ours = [JVAN[dtype] for dtype in dtypes]
    peers = list(PEERS.values()) if against is None else [PEERS[name] for name in against]
    if against is None:
        peers = [engine for engine in peers if engine.dtype in dtypes]
    return [engine for engine in (*ours, *peers) if mode in engine.modes]
