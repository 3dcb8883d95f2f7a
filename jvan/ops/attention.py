"""The attention half of a block in training: a BatchNorm, large-kernel attention, layer scale, drop path and residual."""

from __future__ import annotations

import jittor as jt
from jittor import nn

from ._half import in_float32
from ._jit import can_run, run_kernel
from .cuda import layers as cuda
from .depthwise import convolve_pair, depthwise_ref, pair_gradients
from .norm import batch_norm_gradient
from .pointwise import pointwise_ref

_MAP = "jvan::Map{in0_shape0 * in0_shape1 * in0_shape2, in0_shape3, in0_shape1 * in0_shape2}"


def attention(x, norm, proj_1, local, remote, dilation, gate, proj_2, scale, keep, recompute=False):
    """x + keep·scale·(proj_2(u · gate(remote(local(u)))) + x̂) with u = gelu(proj_1(x̂)), x̂ = norm(x).

    x: (N, H, W, C); norm: ops.norm.Norm; proj_1, gate, proj_2: weight (C, C, 1, 1) and bias (C,) of 1×1 layers;
    local, remote: those of depthwise ones, the latter with `dilation`; scale: (C,); keep: (N,), drop path's
    factors -> (like x, mean (C,), var (C,)): the output and the statistics that norm used. With `recompute`
    the backward pass, the only one, makes the maps between again, from x; a GPU's operators keep them, and a checkpointed
    block, which runs again as a whole (models.checkpointing), holds them no longer than its own backward pass.
    """
    layers = (*proj_1, *local, *remote, *gate, *proj_2)
    if cuda.can_attention(x, norm, (*layers, scale)):
        return cuda.attention(x, norm, proj_1, local, remote, dilation, gate, proj_2, scale, keep)
    chosen = attention_fused if can_run(x, norm.weight, *layers, scale, keep) else attention_ref
    return chosen(x, norm, proj_1, local, remote, dilation, gate, proj_2, scale, keep, recompute)


@in_float32
def attention_ref(x, norm, proj_1, local, remote, dilation, gate, proj_2, scale, keep, recompute=False):
    """By Jittor's own operators; takes and returns what `attention` does."""
    normal, mean, var = norm.ref(x)
    u = nn.gelu(pointwise_ref(normal, *proj_1))
    mask = pointwise_ref(depthwise_ref(depthwise_ref(u, *local), *remote, dilation), *gate)
    branch = pointwise_ref(u * mask, *proj_2) + normal
    return x + scale * branch * keep.reshape((-1, 1, 1, 1)), mean, var


def attention_fused(x, norm, proj_1, local, remote, dilation, gate, proj_2, scale, keep, recompute=False):
    """By `kernels/pointwise_attention.h` and the depthwise kernels: float32 on the CPU."""
    mean, var, rstd = norm.statistics(x)
    out = _Attention.apply(
        x, norm.weight, norm.bias, *proj_1, *local, *remote, *gate, *proj_2, scale,
        keep.stop_grad(), mean, rstd, dilation, norm.constant, recompute,
    )  # fmt: skip
    return out, mean, var


class _Attention(jt.Function):
    def execute(
        self, x, gamma, beta, w1, b1, w_local, b_local, w_remote, b_remote, w2, b2, w3, b3, scale,
        keep, mean, rstd, dilation, constant, recompute,
    ):  # fmt: skip
        self.constant, self.recompute = constant, recompute
        self.norm = mean, rstd, gamma, beta
        self.x = x
        self.depthwise = (w_local, b_local), (w_remote, b_remote), dilation
        self.products = w1, b1, w2, b2, w3, b3, scale, keep
        maps = self._maps(after=x)
        _, u, a = maps
        kept = "nullptr" if recompute else "out1_p"
        source = f"jvan::attention_out({_MAP}, {_pointers(13)}, out0_p, {kept});"
        inputs = [x, u, a, *self.norm, w2, b2, w3, b3, scale, keep]
        out, *gate = run_kernel("pointwise_attention.h", source, inputs, [x.shape] * (1 if recompute else 2))
        self.maps = None if recompute else (*maps, *gate)
        return out

    def _maps(self, after):
        """proj_1's output, u and remote's output; not before `after` is there, an input that goes unused.

        Without it Jittor, which runs whatever it can, would make all blocks' maps again at once.
        """
        w1, b1, *_ = self.products
        source = f"jvan::attention_in({_MAP}, {_pointers(7)}, out0_p, out1_p);"
        inputs = [self.x, *self.norm, w1, b1, after]
        p, u = run_kernel("pointwise_attention.h", source, inputs, [self.x.shape] * 2)
        return p, u, convolve_pair(u, *self.depthwise)

    def grad(self, dout):
        x = self.x
        maps, self.maps = self.maps, None  # freed as soon as used, whatever holds on to this object
        p, u, a, *gate = maps or self._maps(after=dout)
        if self.recompute:
            self.x = None
        w1, b1, w2, b2, w3, b3, scale, keep = self.products
        da, du_gate, *products = run_kernel(
            "pointwise_attention.h",
            f"jvan::attention_out_backward({_MAP}, {_pointers(14)}, {'in14_p' if gate else 'nullptr'}, {_pointers(7, 'out')});",
            [dout, x, u, a, *self.norm, w2, b2, w3, b3, scale, keep, *gate],
            [x.shape, x.shape, w2.shape, b2.shape, w3.shape, b3.shape, scale.shape],
        )
        du, *depthwise = pair_gradients(u, da, *self.depthwise)
        dnormal, dw1, db1, sums = run_kernel(
            "pointwise_attention.h",
            f"jvan::attention_in_backward({_MAP}, {_pointers(12)}, {_pointers(4, 'out')});",
            [dout, du, du_gate, p, x, *self.norm, w1, scale, keep],
            [x.shape, w1.shape, b1.shape, (2, x.shape[-1])],
        )
        mean, rstd, gamma, _ = self.norm
        dx = batch_norm_gradient(dnormal, x, gamma, mean, rstd, sums, residual=dout, constant=self.constant)
        return (dx, sums[1], sums[0], dw1, db1, *depthwise, *products, *[None] * 6)


def _pointers(count, kind="in"):
    return ", ".join(f"{kind}{i}_p" for i in range(count))
