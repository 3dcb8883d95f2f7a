"""What a stage of the Visual Attention Network is built of: large-kernel attention, convolutional feed-forward, patch embedding."""

from __future__ import annotations

from typing import Callable

from jittor import init, nn

from ..ops._jit import can_run, warn_once
from ..ops.attention import attention
from ..ops.feed_forward import feed_forward
from ..ops.gates import GATES
from ..ops.gelu import gelu
from ..structure import lka_kernels
from .layers import BatchNorm, Conv, Depthwise, Dropout, DropPath, Pointwise
from .recompute import is_checkpointed

LAYER_SCALE_INIT = 1e-2  # official code, models/van.py


class LKA(nn.Module):
    """Large-kernel attention (eq. 1–2): a K×K kernel as DW (2d-1) -> DW-D ceil(K/d), dilation d -> 1×1, times its input.

    x: (N, H, W, C) -> the same shape. `parts` leaves some of ("dw", "dw_d", "pw") out, `gate` is how the
    attention meets x: "multiply", "add", "sigmoid" (x times its sigmoid) or "none" (Table 3).
    """

    def __init__(self, dim: int, kernel_size: int = 21, dilation: int = 3, parts=("dw", "dw_d", "pw"), gate="multiply"):
        self.gate = gate
        dw, dw_d = lka_kernels(kernel_size, dilation)
        self.conv0 = Depthwise(dim, dw) if "dw" in parts else nn.Identity()
        self.conv_spatial = Depthwise(dim, dw_d, dilation) if "dw_d" in parts else nn.Identity()
        self.conv1 = Pointwise(dim, dim) if "pw" in parts else nn.Identity()

    def execute(self, x):
        return GATES[self.gate].apply(x, self.conv1(self.conv_spatial(self.conv0(x))))


# A configuration's `attention` -> a function (channels, VANConfig) -> the module; structure.UNITS has the layers of each.
UNITS = {"lka": lambda dim, config: LKA(dim, config.kernel_size, config.dilation, config.lka_parts, config.gate)}


class Attention(nn.Module):
    """1×1 -> GELU -> LKA -> 1×1, plus its own shortcut: the block adds a second one (Fig. 3, Sec. 4.1.1)."""

    title = "attention"

    def __init__(self, dim: int, lka: Callable[[int], nn.Module] = LKA):
        self.proj_1 = Pointwise(dim, dim)
        self.spatial_gating_unit = lka(dim)
        self.proj_2 = Pointwise(dim, dim)

    def execute(self, x):
        return self.proj_2(self.spatial_gating_unit(gelu(self.proj_1(x)))) + x

    @property
    def why_not_one_operator(self) -> str | None:
        """Why `ops.attention` does not compute it, as it does the published LKA of unchanged layers; None where it does."""
        lka = self.spatial_gating_unit
        if type(lka) is not LKA:
            return f"the attention is a {type(lka).__name__}"
        if lka.gate != "multiply":
            return f'the gate is "{lka.gate}"'
        pointwise, depthwise = (self.proj_1, lka.conv1, self.proj_2), (lka.conv0, lka.conv_spatial)
        if any(type(layer) is nn.Identity for layer in (*pointwise, *depthwise)):
            return "parts of large-kernel attention are left out"
        return None if _are(Pointwise, pointwise) and _are(Depthwise, depthwise) else "its layers were replaced"

    @property
    def operands(self) -> tuple:
        """What `ops.attention` takes between the norm and the scale."""
        lka = self.spatial_gating_unit
        pairs = [(m.weight, m.bias) for m in (self.proj_1, lka.conv0, lka.conv_spatial, lka.conv1, self.proj_2)]
        return (*pairs[:3], lka.conv_spatial.dilation, *pairs[3:])


class DWConv(nn.Module):
    """The feed-forward's depthwise 3×3; a module because checkpoints name it `dwconv.dwconv`."""

    def __init__(self, dim: int):
        self.dwconv = Depthwise(dim, 3)

    def execute(self, x):
        return self.dwconv(x)


class CFF(nn.Module):
    """Convolutional feed-forward: 1×1 -> depthwise 3×3 -> GELU -> 1×1, dropout after each of the last two."""

    title = "feed-forward"

    def __init__(self, dim: int, hidden_dim: int, drop: float = 0.0):
        self.fc1 = Pointwise(dim, hidden_dim)
        self.dwconv = DWConv(hidden_dim)
        self.fc2 = Pointwise(hidden_dim, dim)
        self.drop = Dropout(drop)

    def execute(self, x):
        x = self.drop(gelu(self.dwconv(self.fc1(x))))
        return self.drop(self.fc2(x))

    @property
    def why_not_one_operator(self) -> str | None:
        """Why `ops.feed_forward` does not compute it, as it does unchanged layers without dropout; None where it does."""
        if self.drop.drops:
            return "drop_rate is above 0 (drop_path_rate costs nothing)"
        dwconv = self.dwconv.dwconv
        plain = _are(Pointwise, (self.fc1, self.fc2)) and _are(Depthwise, (dwconv,)) and dwconv.dilation == 1
        return None if plain else "its layers were replaced"

    @property
    def operands(self) -> tuple:
        """What `ops.feed_forward` takes between the norm and the scale."""
        return tuple((m.weight, m.bias) for m in (self.fc1, self.dwconv.dwconv, self.fc2))


class Block(nn.Module):
    """x + s₁·Attention(BN(x)), then x + s₂·CFF(BN(x)); s₁ and s₂ are layer scales. (N, H, W, C) -> the same."""

    def __init__(self, dim: int, mlp_ratio: float = 4, drop: float = 0.0, drop_path: float = 0.0, lka=LKA):
        self.norm1 = BatchNorm(dim)
        self.attn = Attention(dim, lka)
        self.drop_path = DropPath(drop_path)
        self.norm2 = BatchNorm(dim)
        self.mlp = CFF(dim, int(dim * mlp_ratio), drop)
        self.layer_scale_1 = init.constant((dim,), "float32", LAYER_SCALE_INIT)
        self.layer_scale_2 = init.constant((dim,), "float32", LAYER_SCALE_INIT)

    def execute(self, x):
        x = self._add(x, self.norm1, self.attn, self.layer_scale_1, attention)
        return self._add(x, self.norm2, self.mlp, self.layer_scale_2, feed_forward)

    def _add(self, x, norm, branch, scale, fused):
        """x + s·branch(norm(x)), in the operator `fused` where the branch's layers are those that it computes."""
        reason = branch.why_not_one_operator
        if reason:
            if norm.is_train and can_run(x):
                warn_once(f"training takes longer, for the {branch.title} of a block runs layer by layer: {reason}")
            return (x + self.drop_path(scale * branch(norm(x)))).cast(x.dtype)
        keep = self.drop_path.factors(x.shape[0])
        # Kept until they are needed, a block's maps would be most of what it needs at once.
        out, mean, var = fused(x, norm.as_operand(), *branch.operands, scale, keep, recompute=is_checkpointed())
        norm.update_running(mean, var, count=x.numel() // x.shape[-1])
        return out


class PatchEmbed(nn.Module):
    """Overlapping patches: a strided convolution and BatchNorm. (N, H, W, C) -> (N, ceil(H/s), ceil(W/s), dim)"""

    def __init__(self, in_chans: int, dim: int, kernel_size: int, stride: int):
        self.proj = Conv(in_chans, dim, kernel_size, stride, kernel_size // 2)
        self.norm = BatchNorm(dim)

    def execute(self, x):
        return self.norm(self.proj(x))


def _are(kind: type, layers) -> bool:
    return all(type(layer) is kind for layer in layers)
