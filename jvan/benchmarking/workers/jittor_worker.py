"""jvan as its users run it, or the plain Jittor graph: without jvan's kernels and without optimize_for_inference."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

from serve import resident_mb, serve, split_arrays

ROOT = Path(__file__).resolve().parents[3]


def versions() -> dict:
    sys.path.insert(0, str(ROOT))
    import jvan  # before Jittor

    jittor = importlib.import_module("jittor")
    return {"jvan": jvan.__version__, "jittor": jittor.__version__}


def build(task: dict):
    prepare(task)
    return (Training if task["mode"] == "train" else Inference)(task)


def prepare(task: dict) -> None:
    """The task's device; JvanError where it is not there or computes wrong numbers."""
    import jittor as jt

    from jvan.device import use_device

    use_device(task["device"])
    # 1 lets cuBLAS take TF32 for float32; for 16 bits it would ask for sums in 16 bits, which bfloat16 has none of.
    jt.flags.use_tensorcore = int(task["tf32"] and task["dtype"] == "float32")


class Inference:
    """Logits of the input, without gradients; through jvan.optimize_for_inference where that is asked for."""

    def __init__(self, task: dict):
        import jittor as jt

        self.task, self.notes = task, []
        self.load()
        self.model = self.network
        self.model.eval()
        if task["optimize"]:
            self.optimize(task["dtype"])
        jt.sync_all()

    def load(self) -> None:
        import jittor as jt

        from jvan.models import build as network
        from jvan.variants import VANConfig

        weights, picture, labels = split_arrays(self.task)
        self.network = network(VANConfig.from_dict(self.task["config"]))
        assign(self.network, weights)
        self.picture = jt.array(picture)
        self.labels = None if labels is None else jt.array(labels)

    def optimize(self, dtype: str) -> None:
        from jvan.inference.optimize import optimize_for_inference

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.model = optimize_for_inference(self.network, dtype=dtype)
        self.notes += [str(warning.message) for warning in caught]
        if caught and self.task["device"] == "cuda" and dtype != "float32":
            raise RuntimeError(f"no {dtype} here: {self.notes[-1]}")

    def step(self) -> None:
        import jittor as jt

        with jt.no_grad():
            self.logits = self.model(self.picture)
            self.logits.sync()

    def outputs(self) -> dict:
        self.step()
        return {"logits": self.logits.float32().numpy()}

    def finish(self) -> None:
        import jittor as jt

        jt.sync_all(True)

    def peak_mb(self) -> float:
        """On a GPU, what Jittor's allocator has taken of its memory; it gives nothing back."""
        if self.task["device"] != "cuda":
            return resident_mb()
        import jittor as jt

        return jt.get_mem_info().total_cuda_used / 1e6

    def profile(self) -> list:
        """Jittor's operators by time over ten iterations: (name, calls, milliseconds an iteration)."""
        import jittor as jt

        with jt.profile_scope(warmup=0, rerun=0) as report:
            for _ in range(10):
                self.step()
        return operators(report, iterations=10)


class Training(Inference):
    """Forward, cross-entropy, backward, AdamW; as jvan's trainer does it, bfloat16 in the maps alone."""

    def __init__(self, task: dict):
        import jittor as jt

        self.task, self.notes = task, []
        self.load()
        self.network.train()
        self.optimizer = adamw(self.network)
        jt.sync_all()

    def step(self) -> None:
        import jittor as jt

        gradients = jt.grad(self.loss(), learned(self.network))
        self.optimizer.step(gradients, lr=1e-4)
        del self.logits  # or this step's maps would live until the next one's are there
        jt.sync_all()

    def loss(self):
        import jittor as jt

        reduced = self.task["dtype"] != "float32"
        self.logits = self.network(self.picture.cast(self.task["dtype"]) if reduced else self.picture).float32()
        return jt.nn.cross_entropy_loss(self.logits, self.labels)

    def outputs(self) -> dict:
        """The logits and every gradient with the task's weights, whatever the steps before did."""
        import jittor as jt

        assign(self.network, split_arrays(self.task)[0])
        names = {id(p): name for name, p in self.network.named_parameters()}
        parameters = learned(self.network)
        gradients = jt.grad(self.loss(), parameters)
        named = {f"gradient {names[id(p)]}": g.numpy() for p, g in zip(parameters, gradients)}
        return {"logits": self.logits.numpy(), **named}


def adamw(network):
    """The optimizer of `jvan train`, which decays all parameters alike here, as PyTorch's does."""
    from jvan.engine.groups import Parameter
    from jvan.engine.optimizer import AdamW

    return AdamW([Parameter(str(i), p, True, 1.0) for i, p in enumerate(learned(network))], weight_decay=0.05)


def learned(network) -> list:
    """What training changes: all but BatchNorm's running statistics, which Jittor also calls parameters."""
    return [p for name, p in network.named_parameters() if ".running_" not in name]


def assign(network, weights: dict) -> None:
    from jvan.models.loading import assign as assign_strictly

    assign_strictly(network, weights)


def operators(report: list, iterations: int) -> list:
    """Rows of Jittor's profiler, longest first."""
    header, *rows = report
    name, count, total = (header.index(title) for title in ("Name", "Count", "TotalTime"))
    shortened = [(row[name], int(row[count]), float(row[total]) / 1e6 / iterations) for row in rows]
    return sorted(shortened, key=lambda row: -row[2])


if __name__ == "__main__":
    serve(versions, build)
