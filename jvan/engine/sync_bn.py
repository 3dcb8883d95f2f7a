"""BatchNorm over the batches of all processes."""

from __future__ import annotations

from jittor import nn

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
    """A block whose norms stand by themselves: one operator for norm and branch would know this process's values alone."""

    def _add(self, x, norm, branch, scale, fused):
        return (x + self.drop_path(scale * branch(norm(x)))).cast(x.dtype)


def synchronise(model, processes: Processes) -> None:
    """Replace every BatchNorm of a VAN; its parameters stay the same variables under the same names."""
    for stage in range(1, 5):
        patch_embed, blocks = getattr(model, f"patch_embed{stage}"), getattr(model, f"block{stage}")
        patch_embed.norm = _synchronised(patch_embed.norm, processes)
        blocks = [_recast(block, SyncBlock) for block in blocks]
        for block in blocks:
            block.norm1, block.norm2 = _synchronised(block.norm1, processes), _synchronised(block.norm2, processes)
        setattr(model, f"block{stage}", nn.ModuleList(blocks))


def _synchronised(norm: BatchNorm, processes: Processes) -> SyncBatchNorm:
    norm = _recast(norm, SyncBatchNorm)
    norm._processes = processes
    return norm


def _recast(module, kind):
    """The same attributes in an object of a class that adds none."""
    other = kind.__new__(kind)
    vars(other).update(vars(module))
    return other
