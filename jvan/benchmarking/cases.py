"""What is measured: a case is one network, size, batch and mode; a row is what became of one engine in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from statistics import median

from ..variants import VANConfig, describe
from .compare import largest_difference, ratios, typical
from .engines import PRODUCT, Engine
from .flops import flop

# Relative to the largest logit (or number of a gradient). Gradients pass some hundred sums over a batch's pixels.
# GPUs compile with fast math, and TF32 has the 11 bits of float16. A gradient of bfloat16 maps errs by 0.12 of its largest
# number in PyTorch (autocast, CPU, VAN-B0 with these weights, 8 pictures of 96×96).
TOLERANCES = {
    ("cpu", "infer"): {"float32": 1e-4, "bfloat16": 3e-2},
    ("cpu", "train"): {"float32": 5e-3},
    ("cuda", "infer"): {"float32": 1e-3, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 3e-2},
    ("cuda", "train"): {"float32": 5e-3, "tf32": 5e-2, "bfloat16": 0.3},
}


@dataclass(frozen=True)
class Case:
    config: VANConfig
    height: int
    width: int
    batch_size: int
    mode: str

    @property
    def title(self) -> str:
        mode = {"infer": "inference", "train": "training step"}[self.mode]
        return f"{describe(self.config)}, {self.height}×{self.width}, batch {self.batch_size}, {mode}"

    @property
    def gflop(self) -> float:
        """10^9 floating-point operations of the whole batch."""
        return self.batch_size * flop(self.config, self.height, self.width, self.mode) / 1e9


@dataclass(eq=False)
class Row:
    """One engine's part in a case: "ok", "missing", "failed" (with a reason), or "waiting" where it was interrupted."""

    engine: Engine
    status: str = "waiting"
    reason: str = ""
    rounds: list[list[float]] = field(default_factory=list)  # seconds, by round and iteration
    ready: dict = field(default_factory=dict)  # the worker's first answer: versions, notes, import_s, first_s
    peak_mb: float = 0.0
    outputs: dict | None = None
    operators: list | None = None

    @property
    def measured(self) -> bool:
        return bool(self.rounds)


@dataclass
class Result:
    """A case's rows, jvan's first, and those of what the device gives at most: matrix products, and on a GPU a copy."""

    case: Case
    rows: list[Row]
    ceilings: list[Row]
    device: str = "cpu"
    tf32: bool = False

    def summary(self) -> dict:
        """Plain JSON types; every engine's numbers are there or None."""
        case = self.case
        return {
            "title": case.title,
            "arch": case.config.arch,
            "size": [case.height, case.width],
            "batch_size": case.batch_size,
            "mode": case.mode,
            "gflop": case.gflop,
            "ceiling_gflops": self._ceiling_gflops("float32"),
            "ceilings": [ceiling(row) for row in self.ceilings],
            "engines": [self._entry(row) for row in self.rows],
        }

    def _entry(self, row: Row) -> dict:
        entry = {
            "engine": row.engine.name,
            "dtype": row.engine.dtype,
            "status": row.status,
            "reason": row.reason or None,
        }
        numbers = ("median_ms", "pictures_per_s", "gflops", "of_ceiling", "ratio", "ratio_min", "ratio_max", "against")
        entry.update(dict.fromkeys((*numbers, "peak_mb", "import_s", "first_s", "rounds_ms")))
        entry.update(versions=row.ready.get("versions"), notes=list(row.ready.get("notes", ())))
        entry.update(self._check(row), operators=row.operators)
        if row.measured:
            entry.update(self._speed(row), peak_mb=row.peak_mb, **{k: row.ready[k] for k in ("import_s", "first_s")})
        return entry

    def _speed(self, row: Row) -> dict:
        seconds = typical(row.rounds)
        gflops, most = self.case.gflop / seconds, self._ceiling_gflops(row.engine.dtype)
        entry = {
            "median_ms": 1e3 * seconds,
            "pictures_per_s": self.case.batch_size / seconds,
            "gflops": gflops,
            "of_ceiling": gflops / most if most else None,
            "rounds_ms": [[1e3 * t for t in times] for times in row.rounds],
        }
        against = self._ours(row.engine.dtype)
        if against is not None:
            by_round = ratios(against.rounds, row.rounds)
            entry.update(ratio=median(by_round), ratio_min=min(by_round), ratio_max=max(by_round))
            entry.update(against=against.engine.name)
        return entry

    def _ceiling_gflops(self, dtype: str) -> float | None:
        """Of the product in this precision, or of the first one."""
        products = {row.engine.dtype: row for row in self.ceilings if row.measured and not is_copy(row)}
        row = products.get(dtype, next(iter(products.values()), None))
        return ceiling(row)["gflops"] if row else None

    def _ours(self, dtype: str) -> Row | None:
        """jvan's row in this precision, or its first one."""
        rows = [row for row in self.rows if row.engine.ours and row.measured]
        return next((row for row in rows if row.engine.dtype == dtype), rows[0] if rows else None)

    def _check(self, row: Row) -> dict:
        reference = self._ours("float32")
        if row.outputs is None or reference is None or reference.outputs is None:
            return {"difference": None, "tolerance": None, "wrong": False}
        difference = largest_difference(reference.outputs, row.outputs)
        tolerances = TOLERANCES[self.device, self.case.mode]
        tolerance = max(tolerances[self._precision(engine)] for engine in (row.engine, reference.engine))
        wrong = not difference <= tolerance
        return {"difference": difference if difference < float("inf") else None, "tolerance": tolerance, "wrong": wrong}

    def _precision(self, engine: Engine) -> str:
        return "tf32" if self.tf32 and engine.dtype == "float32" else engine.dtype


def ceiling(row: Row) -> dict:
    """Its name, precision, and GFLOP/s of a product or GB/s, read and written, of a copy; None where it was not measured."""
    found = {"name": row.engine.name, "dtype": row.engine.dtype, "gflops": None, "gb_per_s": None}
    found["reason"] = row.reason or None
    if row.measured:
        size, seconds = row.engine.options.get("size", PRODUCT.options["size"]), typical(row.rounds)
        what, amount = ("gb_per_s", 2 * size) if is_copy(row) else ("gflops", 2 * size**3)
        found[what] = amount / 1e9 / seconds
    return found


def is_copy(row: Row) -> bool:
    return row.engine.options.get("what") == "copy"


def cases(configs: list[VANConfig], sizes, batch_sizes, modes) -> list[Case]:
    """Every combination, networks outermost."""
    return [Case(c, h, w, n, mode) for c, (h, w), n, mode in product(configs, sizes, batch_sizes, modes)]
