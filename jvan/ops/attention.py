"""The attention half of a block in training: a BatchNorm, large-kernel attention, layer scale, drop path and residual."""

from __future__ import annotations

import jittor as jt
from jittor import nn

from ._half import in_float32
from ._jit import can_run, members, run_named
from .cuda import families as cuda
from .depthwise import convolve_pair, depthwise_ref, pair_gradients
from .norm import batch_norm_gradient
from .pointwise import pointwise_ref

HEADER = "pointwise_attention.h"
_MAP = "jvan::Map{{{x}_shape0 * {x}_shape1 * {x}_shape2, {x}_shape3, {x}_shape1 * {x}_shape2}}"


def attention(x, norm, proj_1, dw, dw_d, dilation, pw, proj_2, scale, keep, recompute=False):
    """x + keep·scale·(proj_2(u · pw(dw_d(dw(u)))) + x̂) with u = gelu(proj_1(x̂)), x̂ = norm(x).

    x: (N, H, W, C); norm: ops.norm.FusedNorm; proj_1, pw, proj_2: weight (C, C, 1, 1) and bias (C,) of 1×1 layers;
    dw, dw_d: those of depthwise ones, the latter with `dilation`; scale: (C,); keep: (N,), drop path's
    factors -> (like x, mean (C,), var (C,)): the output and the statistics that norm used. With `recompute`
    the backward pass, the only one, makes the maps between again, from x; a GPU's operators keep them, and a checkpointed
    block, which runs again as a whole (models.recompute), holds them no longer than its own backward pass.
    """
    layers = (*proj_1, *dw, *dw_d, *pw, *proj_2)
    if cuda.can("attention", x, norm.weight, norm.bias, *layers, scale):
        return cuda.attention(x, norm, proj_1, dw, dw_d, dilation, pw, proj_2, scale, keep)
    chosen = attention_fused if can_run(x, norm.weight, *layers, scale, keep) else attention_ref
    return chosen(x, norm, proj_1, dw, dw_d, dilation, pw, proj_2, scale, keep, recompute)


@in_float32
def attention_ref(x, norm, proj_1, dw, dw_d, dilation, pw, proj_2, scale, keep, recompute=False):
    """By Jittor's own operators; takes and returns what `attention` does."""
    normal, mean, var = norm.ref(x)
    u = nn.gelu(pointwise_ref(normal, *proj_1))
    mask = pointwise_ref(depthwise_ref(depthwise_ref(u, *dw), *dw_d, dilation), *pw)
    branch = pointwise_ref(u * mask, *proj_2) + normal
    return x + scale * branch * keep.reshape((-1, 1, 1, 1)), mean, var


def attention_fused(x, norm, proj_1, dw, dw_d, dilation, pw, proj_2, scale, keep, recompute=False):
    """By `kernels/pointwise_attention.h` and the depthwise kernels: float32 on the CPU."""
    mean, var, rstd = norm.statistics(x)
    out = _Attention.apply(
        x, norm.weight, norm.bias, *proj_1, *dw, *dw_d, *pw, *proj_2, scale,
        keep.stop_grad(), mean, rstd, dilation, norm.constant, recompute,
    )  # fmt: skip
    return out, mean, var


class _Attention(jt.Function):
    def execute(
        self, x, gamma, beta, w_proj_1, b_proj_1, w_dw, b_dw, w_dw_d, b_dw_d, w_pw, b_pw, w_proj_2, b_proj_2, scale,
        keep, mean, rstd, dilation, constant, recompute,
    ):  # fmt: skip
        self.x, self.constant, self.recompute = x, constant, recompute
        self.norm = {"mean": mean, "rstd": rstd, "gamma": gamma, "beta": beta}
        self.proj_1 = {"w_proj_1": w_proj_1, "b_proj_1": b_proj_1}
        self.depthwise = (w_dw, b_dw), (w_dw_d, b_dw_d), dilation
        products = {"w_pw": w_pw, "b_pw": b_pw, "w_proj_2": w_proj_2, "b_proj_2": b_proj_2}
        self.layers = {**products, "scale": scale, "keep": keep}
        maps = self._maps(after=x)
        inputs = {"x": x, "u": maps["u"], "a": maps["a"], **self.norm, **self.layers}
        outputs = dict.fromkeys(("y",) if recompute else ("y", "mask"), x.shape)
        source = f"jvan::attention_out({_MAP}, {members(*inputs, *outputs)});"
        y, *mask = run_named(HEADER, source, inputs, outputs)
        self.maps = None if recompute else {**maps, "mask": mask[0]}
        return y

    def _maps(self, after):
        """p, proj_1's output; u; and a, that of dw_d. Not before `after` is there, an input that goes unused.

        Without it Jittor, which runs whatever it can, would make all blocks' maps again at once.
        """
        inputs, outputs = {"x": self.x, **self.norm, **self.proj_1}, dict.fromkeys(("p", "u"), self.x.shape)
        source = f"jvan::attention_in({_MAP}, {members(*inputs, *outputs)});"
        p, u = run_named(HEADER, source, {**inputs, "after": after}, outputs)
        return {"p": p, "u": u, "a": convolve_pair(u, *self.depthwise)}

    def grad(self, dout):
        x = self.x
        maps, self.maps = self.maps, None  # freed as soon as used, whatever holds on to this object
        maps = maps or self._maps(after=dout)
        if self.recompute:
            self.x = None
        da, du_mask, *products = self._out_gradients(dout, x, maps)
        du, *depthwise = pair_gradients(maps["u"], da, *self.depthwise)
        dnormal, *proj_1, sums = self._in_gradients(dout, du, du_mask, maps["p"], x)
        gamma, mean, rstd = (self.norm[name] for name in ("gamma", "mean", "rstd"))
        dx = batch_norm_gradient(dnormal, x, gamma, mean, rstd, sums, residual=dout, constant=self.constant)
        return (dx, sums[1], sums[0], *proj_1, *depthwise, *products, *[None] * 6)

    def _out_gradients(self, dout, x, maps):
        """Of a; of u by way of the mask; of pw's and proj_2's weights and biases; of the scale."""
        inputs = {"dout": dout, "x": x, "u": maps["u"], "a": maps["a"], **self.norm, **self.layers}
        inputs.update((name, maps[name]) for name in ("mask",) if name in maps)
        learned = {f"d{name}": v.shape for name, v in self.layers.items() if name != "keep"}
        outputs = {"da": x.shape, "du_mask": x.shape, **learned}
        source = f"jvan::attention_out_backward({_MAP}, {members(*inputs, *outputs)});"
        return run_named(HEADER, source, inputs, outputs)

    def _in_gradients(self, dout, du, du_mask, p, x):
        """Of x̂; of proj_1's weight and bias; the sums of which the BatchNorm's are made."""
        kept = {name: self.layers[name] for name in ("scale", "keep")}
        given = {"dout": dout, "du": du, "du_mask": du_mask, "p": p, "x": x}
        inputs = {**given, **self.norm, "w_proj_1": self.proj_1["w_proj_1"], **kept}
        learned = {f"d{name}": v.shape for name, v in self.proj_1.items()}
        outputs = {"dnormal": x.shape, **learned, "norm_sums": (2, x.shape[-1])}
        source = f"jvan::attention_in_backward({_MAP}, {members(*inputs, *outputs)});"
        return run_named(HEADER, source, inputs, outputs)
