"""The Visual Attention Network (Guo et al., CVM 2023, arXiv 2202.09741), channels-last inside."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import Callable

import jittor as jt
import numpy as np
from jittor import nn

from ..ops.forked import check_not_forked
from .blocks import LKA, Block, PatchEmbed
from .layers import LayerNorm, Linear
from .recompute import checkpoint


class VAN(nn.Module):
    """Four stages of patch embedding, blocks and LayerNorm, then a linear head (Table 5).

    x: (N, in_chans, H, W) float32, any H, W of at least 32 -> logits (N, num_classes), or the pooled
    features (N, C4) where num_classes is 0. `lka` makes a block's attention from its width. Of a float16 or bfloat16 x
    all maps are of that type; parameters, sums, statistics, pooled features and logits are float32.
    """

    def __init__(
        self, embed_dims, depths, mlp_ratios=(8, 8, 4, 4), num_classes=1000, in_chans=3, stem_stride=4,
        norm_eps=1e-6, lka: Callable[[int], nn.Module] = LKA, drop_rate=0.0, drop_path_rate=0.0,
    ):  # fmt: skip
        check_not_forked()
        self.in_chans, self.num_features, self.num_classes = in_chans, embed_dims[-1], num_classes
        self.frozen_stages = 0
        self.grad_checkpointing = False
        for name, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
            if not 0 <= rate < 1:
                raise ValueError(f"{name} is {rate}; it must be at least 0 and below 1")
        strides = (stem_stride, 2, 2, 2)
        rates = iter(_linspace(drop_path_rate, sum(depths)))
        self.feature_info = []
        reduction = 1
        for i, (dim, depth, ratio, stride) in enumerate(zip(embed_dims, depths, mlp_ratios, strides), start=1):
            previous = in_chans if i == 1 else embed_dims[i - 2]
            setattr(self, f"patch_embed{i}", PatchEmbed(previous, dim, 7 if i == 1 else 3, stride))
            blocks = [Block(dim, ratio, drop_rate, next(rates), lka) for _ in range(depth)]
            setattr(self, f"block{i}", nn.ModuleList(blocks))
            setattr(self, f"norm{i}", LayerNorm(dim, norm_eps))
            reduction *= stride
            self.feature_info.append({"num_chs": dim, "reduction": reduction, "module": f"norm{i}"})
        self.head = Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    metadata = None  # what is known of the weights (checkpoints.metadata.Metadata); create_model sets it

    def execute(self, x):
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x):
        """x (N, in_chans, H, W) -> (N, C4, H/32, W/32), the last stage's map after its LayerNorm."""
        *_, last = self.stages(x)
        return last.permute(0, 3, 1, 2)

    def forward_head(self, features):
        """features (N, C4, h, w) -> logits (N, num_classes): the mean over the map, then the head."""
        return self.head(features.float32().mean([2, 3]))

    def stages(self, x):
        """Yield the four stages' maps (N, h, w, C); the LayerNorm's output is what the next stage reads."""
        check_input(x, self.in_chans)
        self._hold_frozen()
        x = x.permute(0, 2, 3, 1)
        for patch_embed, blocks, norm in map(self._stage, range(1, 5)):
            for module in (patch_embed, *blocks, norm):
                x = checkpoint(module, x) if self.grad_checkpointing else module(x)
            yield x

    def layers(self):
        """Yield (depth, name, module) from the stem up: 0 is the stem, n the n-th of all blocks.

        A stage's LayerNorm shares the depth of the block before it, a patch embedding that of the block after it. The
        head is no layer. Rates that fall by layer, and whatever else goes by depth, are told from this alone.
        """
        depth = 0
        for i in range(1, 5):
            patch_embed, blocks, norm = self._stage(i)
            yield (depth + 1 if i > 1 else 0), f"patch_embed{i}", patch_embed
            for index, block in enumerate(blocks):
                depth += 1
                yield depth, f"block{i}.{index}", block
            yield depth, f"norm{i}", norm

    @property
    def pretrained_cfg(self) -> dict:
        """How pictures become this network's input, in timm's words; empty where no metadata is known."""
        if self.metadata is None:
            return {}
        p = self.metadata.preprocessing
        return {
            "input_size": (self.in_chans, p.size, p.size),
            "crop_pct": p.crop_pct,
            "interpolation": p.interpolation,
            "mean": p.mean,
            "std": p.std,
        }

    def get_classifier(self):
        """The head: a linear layer, or an identity where the network has no classes."""
        return self.head

    def reset_classifier(self, num_classes: int):
        """Replace the head by a new one for `num_classes`, or by none for 0."""
        if not isinstance(num_classes, int) or num_classes < 0:
            raise ValueError(f"num_classes is {num_classes!r}; it must be an integer, 0 for no head")
        self.num_classes = num_classes
        self.head = Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        if self.metadata is not None:  # the new head's classes have no names
            config = replace(self.metadata.config, num_classes=num_classes)
            self.metadata = replace(self.metadata, config=config, labels=None)

    def set_grad_checkpointing(self, enable: bool = True):
        """Trade time for memory: keep each block's input alone, and make its maps again in the backward pass.

        Gradients, running statistics and random masks stay what they are without it. An output has one backward
        pass, before train() or eval() is called again; your own attention (`lka`) must be a plain function of x.
        """
        self.grad_checkpointing = enable

    def freeze(self, stages: int = 2):
        """Stop training the first `stages` stages (0 releases all): no gradients, BatchNorm on its running statistics.

        It outlasts `train()`, of this module and of one that contains it.
        """
        if not 0 <= stages <= 4:
            raise ValueError(f"stages is {stages}; VAN has four, so choose 0 to 4")
        released = range(stages + 1, self.frozen_stages + 1)
        self.frozen_stages = stages
        for module in (module for i in released for module in self._stage(i)):
            _set_training(module, self.is_training())
            # Jittor's train() restores only what it saw training before the first eval().
            getattr(self, "backup_grad_state", {}).update((id(p), True) for p in _learned(module))
        self._hold_frozen()

    def train(self):
        """Set training mode; frozen stages stay frozen."""
        super().train()
        self._hold_frozen()
        return self

    def _hold_frozen(self):
        # A module that contains this one sets `is_train` here without calling our train(), so that
        # freezing is applied again before every forward pass.
        for i in range(1, self.frozen_stages + 1):
            for module in self._stage(i):
                _set_training(module, False)

    def _stage(self, i: int):
        return getattr(self, f"patch_embed{i}"), getattr(self, f"block{i}"), getattr(self, f"norm{i}")


def check_input(x, in_chans: int) -> None:
    """TypeError or ValueError for what is no batch of pictures, (N, in_chans, H, W) of floating-point numbers."""
    check_not_forked()
    if not isinstance(x, jt.Var):
        raise TypeError(f"the input is a {type(x).__name__}; pass a jt.Var, e.g. jt.array(x)")
    if x.ndim != 4 or x.shape[1] != in_chans or 0 in x.shape:
        raise ValueError(f"the input is {tuple(x.shape)}; the network takes (N, {in_chans}, H, W)")
    if not str(x.dtype).startswith(("float", "bfloat")):
        raise ValueError(f"the input is {x.dtype}; scale the pixels to [0, 1], normalise, and pass float32")


class VANFeatures(VAN):
    """VAN as a backbone: x (N, in_chans, H, W) -> the chosen stages' maps, a list of (N, C, h, w).

    Takes VAN's arguments but for `num_classes`; `out_indices` names stages from 0.
    """

    def __init__(self, *args, out_indices=(0, 1, 2, 3), **kwargs):
        super().__init__(*args, num_classes=0, **kwargs)
        chosen = tuple(out_indices) if isinstance(out_indices, (list, tuple, range, np.ndarray)) else (out_indices,)
        whole = all(isinstance(index, Integral) for index in chosen)
        if not chosen or not whole or not set(chosen) <= {0, 1, 2, 3} or len(set(chosen)) != len(chosen):
            raise ValueError(f"out_indices is {out_indices!r}; choose some of 0, 1, 2, 3, each once")
        self.out_indices = tuple(map(int, chosen))
        self.feature_info = [self.feature_info[i] for i in self.out_indices]

    def reset_classifier(self, num_classes: int):
        """A backbone has no head: raises ValueError for any number of classes but 0."""
        if num_classes:
            raise ValueError("a features_only network has no head; build it without features_only for one")

    def execute(self, x):
        maps = []
        for i, stage in zip(range(max(self.out_indices) + 1), self.stages(x)):
            maps.append(stage.permute(0, 3, 1, 2) if i in self.out_indices else None)
        return [maps[i] for i in self.out_indices]


def _linspace(last: float, count: int) -> list[float]:
    """`count` drop path rates that rise from 0 to `last`, block by block."""
    return [last * i / max(count - 1, 1) for i in range(count)]


def _learned(module):
    """The parameters that training changes: all but BatchNorm's running statistics."""
    for child in module.modules():
        for name, value in vars(child).items():
            if isinstance(value, jt.Var) and not name.startswith("running_"):
                yield value


def _set_training(module, training: bool):
    for child in module.modules():
        child.is_train = training
    for parameter in _learned(module):
        parameter.start_grad() if training else parameter.stop_grad()
