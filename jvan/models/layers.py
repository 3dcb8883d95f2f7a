"""Layers on channels-last maps (N, H, W, C); parameters have PyTorch's names and shapes."""

from __future__ import annotations

import math

import jittor as jt
from jittor import init, nn

from ..ops.conv import conv
from ..ops.depthwise import depthwise
from ..ops.norm import FusedNorm, batch_norm, layer_norm
from ..ops.pointwise import pointwise
from .recompute import draw, is_first_run


class Conv(nn.Module):
    """A K×K convolution with bias, initialised as the official code does: normal(0, sqrt(2 / fan_out)), bias 0."""

    def __init__(self, in_chans: int, out_chans: int, kernel_size: int, stride: int = 1, padding: int = 0):
        self.stride, self.padding = stride, padding
        self.weight = _normal((out_chans, in_chans, kernel_size, kernel_size), kernel_size**2 * out_chans)
        self.bias = init.constant((out_chans,), "float32", 0.0)

    def execute(self, x):
        return conv(x, self.weight, self.bias, self.stride, self.padding)


class Pointwise(nn.Module):
    """A 1×1 convolution with bias: a matrix product over the last axis."""

    def __init__(self, in_chans: int, out_chans: int):
        self.weight = _normal((out_chans, in_chans, 1, 1), out_chans)
        self.bias = init.constant((out_chans,), "float32", 0.0)

    def execute(self, x):
        return pointwise(x, self.weight, self.bias)


class Depthwise(nn.Module):
    """A depthwise K×K convolution that keeps the map's size: padding is dilation·(K - 1) / 2 on every side.

    Raises ValueError where that is no whole number (an even K with an odd dilation).
    """

    def __init__(self, chans: int, kernel_size: int, dilation: int = 1):
        reach = dilation * (kernel_size - 1)
        if reach % 2:
            raise ValueError(
                f"a {kernel_size}x{kernel_size} kernel with dilation {dilation} reaches over {reach + 1} pixels and "
                "cannot be padded evenly; choose an odd kernel or an even dilation"
            )
        self.dilation = dilation
        self.weight = _normal((chans, 1, kernel_size, kernel_size), kernel_size**2)
        self.bias = init.constant((chans,), "float32", 0.0)

    def execute(self, x):
        return depthwise(x, self.weight, self.bias, self.dilation)


class Linear(nn.Module):
    """x (N, C) -> (N, O), float32; weights from a normal of deviation 0.02 truncated at ±2, bias 0, as the official head."""

    def __init__(self, in_features: int, out_features: int):
        self.weight = init.trunc_normal_(jt.zeros((out_features, in_features)), std=0.02)
        self.bias = init.constant((out_features,), "float32", 0.0)

    def execute(self, x):
        # Whatever the maps are: what a softmax and a loss are made from is float32.
        return pointwise(x.float32(), self.weight.float32(), self.bias.float32())


class BatchNorm(nn.Module):
    """Batch normalisation over the last axis, with PyTorch's numbers: an unbiased running variance.

    Each process has its own statistics. Raises ValueError in training where a channel has a single value.
    """

    def __init__(self, chans: int, eps: float = 1e-5, momentum: float = 0.1):
        self.eps, self.momentum = eps, momentum
        self.is_train = True
        self.weight = init.constant((chans,), "float32", 1.0)
        self.bias = init.constant((chans,), "float32", 0.0)
        self.running_mean = init.constant((chans,), "float32", 0.0).stop_grad()
        self.running_var = init.constant((chans,), "float32", 1.0).stop_grad()

    def execute(self, x):
        if not self.is_train:
            scale = self.weight / (self.running_var + self.eps).sqrt()
            return (x * scale + (self.bias - self.running_mean * scale)).cast(x.dtype)
        y, mean, var = batch_norm(x, self.weight, self.bias, self.eps)
        self.update_running(mean, var, count=x.numel() // x.shape[-1])
        return y

    def as_operand(self) -> FusedNorm:
        """What an operator needs that normalises its own input; in training it is to call `update_running` after."""
        statistics = () if self.is_train else (self.running_mean, self.running_var)
        return FusedNorm(self.weight, self.bias, self.eps, *statistics)

    def update_running(self, mean, var, count: int):
        """Move the running statistics towards a batch's mean and biased variance of `count` values a channel."""
        if not self.is_train or not is_first_run():
            return
        if count < 2:
            raise ValueError(
                "BatchNorm needs more than one value a channel in training: use larger pictures or batches"
            )
        unbiased = var * (count / (count - 1))
        self.running_mean.update(self.running_mean + (mean - self.running_mean) * self.momentum)
        self.running_var.update(self.running_var + (unbiased - self.running_var) * self.momentum)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis."""

    def __init__(self, chans: int, eps: float):
        self.eps = eps
        self.weight = init.constant((chans,), "float32", 1.0)
        self.bias = init.constant((chans,), "float32", 0.0)

    def execute(self, x):
        return layer_norm(x, self.weight, self.bias, self.eps)


class Dropout(nn.Module):
    """Drop single values in training, and scale the others by 1 / (1 - rate)."""

    def __init__(self, rate: float):
        if not 0 <= rate < 1:
            raise ValueError(f"the rate of {type(self).__name__} is {rate}; it must be at least 0 and below 1")
        self.rate = rate
        self.is_train = True

    @property
    def drops(self) -> bool:
        return self.is_train and self.rate > 0

    def execute(self, x):
        return (x * self._factors(x.shape)).cast(x.dtype) if self.drops else x

    def _factors(self, shape):
        keep = 1 - self.rate
        return draw(lambda: (jt.rand(shape) < keep).float32() / keep)


class DropPath(Dropout):
    """Drop a residual branch for whole samples in training, and scale the others by 1 / (1 - rate)."""

    def execute(self, x):
        return (x * self.factors(x.shape[0]).reshape((-1, *[1] * (x.ndim - 1)))).cast(x.dtype) if self.drops else x

    def factors(self, batch: int):
        """What each sample's branch is to be multiplied by: (batch,)."""
        return self._factors((batch,)) if self.drops else jt.ones((batch,))


def _normal(shape, fan_out: int):
    return init.gauss(shape, "float32", 0.0, math.sqrt(2.0 / fan_out))
