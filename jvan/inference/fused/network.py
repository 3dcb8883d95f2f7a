"""What networks for inference alone have in common, whatever computes them."""

from __future__ import annotations

import copy

import jittor as jt
from jittor import nn

from ...models.van import VAN, VANFeatures
from ...ops._jit import Arithmetic

ORIGINAL = "the network that it was made from"


class InferenceNetwork(nn.Module):
    """A VAN's forward pass without gradients; made by `optimize_for_inference`.

    x: (N, in_chans, H, W) float32 -> what the network it was made from gives: logits (N, num_classes),
    pooled features, or of a VANFeatures the list of its stages' maps; float32. `arithmetic` says in what
    numbers it computes, `native` whether the processor has units for these. A module that contains it neither trains nor saves it: to that module it has no parameters.
    """

    def __init__(self, model: VAN, arithmetic: Arithmetic):
        self.arithmetic, self.native = arithmetic
        self.in_chans, self.num_features, self.num_classes = model.in_chans, model.num_features, model.num_classes
        self.feature_info, self.metadata = model.feature_info, model.metadata
        self.pretrained_cfg = model.pretrained_cfg
        self.out_indices = model.out_indices if isinstance(model, VANFeatures) else None
        self._head = copy.deepcopy(model.head)
        self._head.eval()
        self._learned = [
            value.start_grad() for value in self._head.parameters()
        ]  # so that a gradient for them is noticed

    def execute(self, x):
        if self.out_indices is None:
            return self._constant(x, lambda x: self._run(x, logits=True)[0])
        return self._constant(x, self._chosen_maps)

    def forward_features(self, x):
        """x (N, in_chans, H, W) -> (N, C4, H/32, W/32), the last stage's map after its LayerNorm."""
        return self._constant(x, lambda x: self._run(x, wanted=(3,))[1][3])

    def forward_head(self, features):
        """features (N, C4, h, w) -> logits (N, num_classes): the mean over the map, then the head."""
        return self.head(features.mean([2, 3]))

    @property
    def head(self):
        """The head: a linear layer, or an identity where the network has no classes."""
        return self._head

    def get_classifier(self):
        """The head: a linear layer, or an identity where the network has no classes."""
        return self._head

    @property
    def is_train(self) -> bool:
        """Always False: a module that contains this one sets it on all that it contains, each time that it trains."""
        return False

    @is_train.setter
    def is_train(self, value: bool):
        pass

    def eval(self):
        """It is in eval mode already."""
        return self

    def train(self):
        """Not possible: raises RuntimeError."""
        raise RuntimeError(f"this network is for inference alone; train {ORIGINAL}")

    def parameters(self, recurse=True):
        """Not possible, for the weights are folded into each other: raises RuntimeError. So does all that reads them."""
        raise RuntimeError(f"this network is for inference alone, its parameters are folded; take those of {ORIGINAL}")

    def state_dict(self, to=None, recurse=True):
        """Not possible: raises RuntimeError."""
        raise RuntimeError(
            f"this network is for inference alone, its weights are folded; save {ORIGINAL}, or load into it"
        )

    def load_parameters(self, params):
        """Not possible: raises RuntimeError. `load_state_dict` does too."""
        raise RuntimeError(
            f"this network is for inference alone, its weights are folded; load into {ORIGINAL} "
            "and call optimize_for_inference again"
        )

    def load(self, path: str):
        """Not possible: raises RuntimeError, before the file is read."""
        self.load_parameters({})

    def dfs(self, parents, k, callback, callback_leave=None, recurse=True):
        """Show Jittor's walks this module, and not its head: of a parent's parameters that would be two of many."""
        if callback(parents, k, self, 0) is not False and callback_leave:
            callback_leave(parents, k, self, 0)

    def _chosen_maps(self, x):
        maps = self._run(x, wanted=self.out_indices)[1]
        return [maps[i] for i in self.out_indices]

    def _constant(self, x, compute):
        """compute(x), of which no gradient can be asked; only what comes after it is differentiated."""
        return _Constant.apply(compute, x, *self._learned)

    def _run(self, x, wanted=(), logits=False):
        """The logits and the four stages' maps; what is not asked for has no values."""
        raise NotImplementedError


class _Constant(jt.Function):
    """Outputs whose gradient raises. Without gradients (`jt.no_grad`) Jittor leaves all but `execute` out."""

    def execute(self, compute, x, *_learned):
        return compute(x)

    def grad(self, *_):
        raise RuntimeError(
            "a gradient is asked through a network for inference alone, which has none: differentiate "
            f"{ORIGINAL}, or keep what comes before this one out (stop_grad)"
        )
