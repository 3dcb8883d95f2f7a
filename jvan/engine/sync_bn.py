"""BatchNorm over the batches of all processes."""

from __future__ import annotations

from ..models.layers import BatchNorm
from ..models.van import Block
from .parallel import Processes


class SyncBatchNorm(BatchNorm):
    """Normalises by the mean and variance of all processes' values together; in eval mode a BatchNorm."""

    def execute(self, x):
        if not self.is_train:
            return super().execute(x)
        axes, dtype = list(range(x.ndim - 1)), x.dtype
        x = x.float32()  # Jittor rounds a mean of 16-bit maps to their type
        mean = self._processes.differentiable_mean(x.mean(axes))
        centred = x - mean
        var = self._processes.differentiable_mean((centred * centred).mean(axes))
        self.update_running(mean.detach(), var.detach(), count=self._processes.count * x.numel() // x.shape[-1])
        return (centred * (self.weight / (var + self.eps).sqrt()) + self.bias).cast(dtype)


class SyncBlock(Block):
    """A block whose norms stand on their own: one operator for norm and branch would know this process's values alone."""

    def _add(self, x, norm, branch, scale, fused):
        return (x + self.drop_path(scale * branch(norm(x)))).cast(x.dtype)


def synchronise(model, processes: Processes) -> None:
    """Turn every BatchNorm inside `model`, and every block, into one of the classes above; nothing else of them changes."""
    for module in model.modules():
        if type(module) is BatchNorm:
            module.__class__ = SyncBatchNorm
            module._processes = processes
        elif type(module) is Block:
            module.__class__ = SyncBlock
