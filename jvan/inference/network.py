"""What networks for inference alone have in common, whatever computes them."""

from __future__ import annotations

import copy

from jittor import nn

from ..models.van import VAN, VANFeatures


class InferenceNetwork(nn.Module):
    """A VAN's forward pass without gradients; made by `optimize_for_inference`.

    x: (N, in_chans, H, W) float32 -> what the network it was made from gives: logits (N, num_classes),
    pooled features, or of a VANFeatures the list of its stages' maps; float32. `arithmetic` says in what
    numbers it computes.
    """

    def __init__(self, model: VAN, arithmetic: str):
        self.arithmetic = arithmetic
        self.in_chans, self.num_features, self.num_classes = model.in_chans, model.num_features, model.num_classes
        self.feature_info, self.metadata = model.feature_info, model.metadata
        self.pretrained_cfg = model.pretrained_cfg
        self.out_indices = model.out_indices if isinstance(model, VANFeatures) else None
        self.head = copy.deepcopy(model.head)
        self.head.eval()
        self.is_train = False

    def execute(self, x):
        if self.out_indices is None:
            return self._run(x, logits=True)[0]
        maps = self._run(x, wanted=self.out_indices)[1]
        return [maps[i] for i in self.out_indices]

    def forward_features(self, x):
        """x (N, in_chans, H, W) -> (N, C4, H/32, W/32), the last stage's map after its LayerNorm."""
        return self._run(x, wanted=(3,))[1][3]

    def forward_head(self, features):
        """features (N, C4, h, w) -> logits (N, num_classes): the mean over the map, then the head."""
        return self.head(features.mean([2, 3]))

    def get_classifier(self):
        """The head: a linear layer, or an identity where the network has no classes."""
        return self.head

    def train(self):
        """Not possible: raises RuntimeError."""
        raise RuntimeError("this network is for inference alone; train the one that it was made from")

    def _run(self, x, wanted=(), logits=False):
        """The logits and the four stages' maps; what is not asked for has no values."""
        raise NotImplementedError
