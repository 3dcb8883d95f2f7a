"""Convolutions on channels-last maps (N, H, W, C) with weights in PyTorch's shapes.

They are Jittor's own index operators: oneDNN and cuDNN take over where Jittor finds them, generic
loops run elsewhere, and the gradients come from Jittor.
"""

from __future__ import annotations

from jittor import nn


def pointwise(x, weight, bias):
    """1×1 convolution as a matrix product.

    x: (N, H, W, C); weight: (O, C, 1, 1); bias: (O,) -> (N, H, W, O)
    """
    out_chans, in_chans = weight.shape[:2]
    flat = x.reshape((-1, in_chans))
    # Broadcast, multiply, sum: the form in which Jittor recognises a product with a transposed matrix.
    shape = [flat.shape[0], out_chans, in_chans]
    product = (flat.broadcast(shape, [1]) * weight.reshape((out_chans, in_chans)).broadcast(shape, [0])).sum(2)
    return product.reshape([*x.shape[:-1], out_chans]) + bias


def conv(x, weight, bias, stride=1, padding=0):
    """Convolution over all channels.

    x: (N, H, W, C); weight: (O, C, K, K); bias: (O,) -> (N, H', W', O), H' = (H + 2·padding - K) // stride + 1
    """
    # Channels first for this one: of the channels-last form with a stride, Jittor 1.3.11 computes the
    # weight's gradient as a dilated convolution chosen for the first shape it meets, which writes past
    # its output for later shapes (first H = 5, then H = 7, K = 7, stride 4).
    maps = nn.conv2d(x.permute(0, 3, 1, 2), weight, None, stride=stride, padding=padding)
    return maps.permute(0, 2, 3, 1) + bias


def depthwise(x, weight, bias, dilation=1):
    """Depthwise convolution that keeps the map's size: stride 1, padding dilation·(K - 1) / 2.

    x: (N, H, W, C); weight: (C, 1, K, K); bias: (C,) -> (N, H, W, C)
    """
    batch, height, width, chans = x.shape
    size = weight.shape[2]
    padding = dilation * (size - 1) // 2
    # Two axes of length one (channels of a group, in and out) make this the grouped pattern that Jittor tunes.
    shape = [batch, height, width, chans, 1, 1, size, size]
    taps = x.reindex(shape, ["i0", f"i1-{padding}+i6*{dilation}", f"i2-{padding}+i7*{dilation}", "i3*1+i5"])
    taps.compile_options = {"G": chans}
    products = taps * weight.reindex(shape, ["i3*1+i4", "i5", "i6", "i7"])
    return products.reindex_reduce("add", [batch, height, width, chans], ["i0", "i1", "i2", "i3*1+i4"]) + bias
