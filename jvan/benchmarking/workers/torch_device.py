"""PyTorch on a device: the task's precision, TF32 or not, and an iteration captured as a CUDA graph."""

from __future__ import annotations

import contextlib


def prepare(task: dict) -> None:
    """Switches that hold for the process. RuntimeError where the task wants a GPU that PyTorch does not see."""
    if task["device"] != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} sees no CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = task["tf32"]
    torch.backends.cudnn.benchmark = True  # shapes never change here, so the fastest algorithm is worth its search


class Precision:
    """float32 as it is; 16 bits by autocast, or (`whole`) with the weights themselves converted, which is for inference."""

    def __init__(self, task: dict):
        import torch

        self.task, self.dtype = task, getattr(torch, task["dtype"])
        self.reduced = self.dtype != torch.float32
        self.whole = self.reduced and bool(task.get("whole"))

    def convert(self, network) -> None:
        if self.whole:
            network.to(self.dtype)

    def input(self, picture):
        return picture.to(self.dtype) if self.whole else picture

    def context(self):
        if not self.reduced or self.whole:
            return contextlib.nullcontext()
        import torch

        # A graph must hold the weights' conversion itself, not the address of a cached one.
        return torch.autocast(self.task["device"], self.dtype, cache_enabled=not self.task.get("graph"))


def captured(iteration):
    """A function that replays one call of `iteration` from a CUDA graph; its tensors stay where they are."""
    import torch

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):  # what is compiled, chosen and allocated on the first calls stays out of the graph
            iteration()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        iteration()
    return graph.replay
