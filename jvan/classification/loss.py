"""What training lowers."""

from __future__ import annotations

from jittor import nn


def soft_cross_entropy(logits, targets):
    """Mean over samples of -Σ target · log softmax(logits); both (N, classes) (timm's SoftTargetCrossEntropy)."""
    return -(targets * nn.log_softmax(logits, dim=1)).sum(1).mean()
