"""What the benchmark runs on, and the work it gives to every engine: weights, pictures, labels."""

from __future__ import annotations

import os
import platform
import re

import numpy as np

from ..boot.toolkit import driver
from ..checkpoints.names.architecture import parameter_shapes
from ..errors import JvanError
from ..variants import VANConfig


def describe_machine() -> dict:
    """CPU model, cores that this process may use, vector extensions that matter, memory in GB, system, other work's load."""
    cpu = _read("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", cpu, re.M)
    flags = set(re.findall(r"[\w.]+", (re.search(r"^flags\s*:(.*)$", cpu, re.M) or [""])[0]))
    known = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")
    memory = re.search(r"MemTotal:\s*(\d+)", _read("/proc/meminfo"))
    return {
        "cpu": model[1].strip() if model else platform.processor() or platform.machine(),
        "cores": available_cores(),
        "extensions": [name for name in known if name in flags],
        "memory_gb": round(int(memory[1]) * 1024 / 1e9, 1) if memory else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def describe_gpus() -> dict:
    """`gpus`, a line each, and the newest CUDA that the driver takes; JvanError where there is no GPU."""
    takes, gpus = driver.version(), driver.gpus()
    if not gpus:
        why = "NVIDIA's driver shows no GPU" if takes else "NVIDIA's driver (libcuda.so.1) is not there"
        raise JvanError(f"no CUDA device here: {why}; use --device cpu, or run `python -m jvan.doctor` for the reason")
    return {"gpus": [f"{gpu.name} (sm_{gpu.arch})" for gpu in gpus], "cuda": ".".join(map(str, takes))}


def device_of(name: str) -> str:
    """ "cuda" or "cpu", for "auto" as `use_device` chooses: asked of a child, since a GPU that this process took would be the engines' loss."""
    if name != "auto" or driver.version() is None:
        return "cpu" if name == "auto" else name
    from ..boot.probe import run_child

    code = "from jvan.device import use_device; print(f'\\n{use_device()}')"
    status, output, _ = run_child(code, timeout=1800)
    if status != 0:
        raise JvanError("Jittor does not start; use --device cpu, or run `python -m jvan.doctor` for the reason")
    return output.split()[-1]


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def random_weights(config: VANConfig) -> dict[str, np.ndarray]:
    """Weights of the network's own sizes that leave nothing at zero or one, where errors would hide.

    A stage's layer scales add up to about one third: the attention's output grows with the square of its input, and
    ninety untrained blocks would otherwise overflow.
    """
    random = np.random.default_rng(20220220)
    weights = {}
    for name, shape in parameter_shapes(config).items():
        if len(shape) == 4:
            groups = shape[0] if shape[1] == 1 else 1
            values = random.normal(0, (2 * groups / (shape[0] * shape[2] * shape[3])) ** 0.5, shape)
        elif len(shape) == 2:
            values = random.normal(0, shape[1] ** -0.5, shape)
        elif "layer_scale" in name:
            depth = config.depths[int(name[len("block")]) - 1]
            values = random.uniform(0.06, 0.6, shape) / depth
        elif name.endswith(("weight", "running_var")):
            values = random.uniform(0.5, 1.5, shape) * (2 if name.endswith("var") else 1)
        else:
            values = random.normal(0, 0.1, shape)
        weights[name] = values.astype(np.float32)
    return weights


def random_pictures(config: VANConfig, batch_size: int, height: int, width: int) -> dict[str, np.ndarray]:
    """`input` (N, C, H, W) float32 of normalised pixels, and `labels` (N,) for training."""
    random = np.random.default_rng(batch_size)
    pictures = random.standard_normal((batch_size, config.in_chans, height, width), dtype=np.float32)
    return {"input": pictures, "labels": random.integers(0, max(config.num_classes, 1), batch_size)}


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
