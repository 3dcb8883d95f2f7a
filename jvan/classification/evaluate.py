"""Top-1, top-5, each class's share and the confusion matrix, counted exactly over any number of processes."""

from __future__ import annotations

from dataclasses import dataclass

import jittor as jt
import numpy as np

from ..errors import TrainingError
from ..inference.optimize import optimize_for_inference
from ..models.van import VAN


@dataclass(frozen=True)
class Evaluation:
    """What a network makes of labelled pictures: counts by class, and, if asked for, `confusion[label, answer]`."""

    pictures: np.ndarray
    right: np.ndarray
    in_top5: np.ndarray
    loss_sum: float
    confusion: np.ndarray | None = None

    @property
    def count(self) -> int:
        return int(self.pictures.sum())

    @property
    def top1(self) -> float:
        return float(self.right.sum()) / max(self.count, 1)

    @property
    def top5(self) -> float:
        return float(self.in_top5.sum()) / max(self.count, 1)

    @property
    def loss(self) -> float:
        """The mean cross-entropy."""
        return self.loss_sum / max(self.count, 1)

    @property
    def figures(self) -> dict[str, float]:
        return {"top1": self.top1, "top5": self.top5, "loss": self.loss}

    def describe(self) -> str:
        return f"top-1 {100 * self.top1:.2f} %, top-5 {100 * self.top5:.2f} % of {self.count} pictures"


def evaluate(
    model, loader, labels: np.ndarray, processes, stop=bool, progress=iter, confusion: bool = False
) -> Evaluation | None:
    """Run `model` over the pictures of `loader` (its batches' `indices` point into `labels`); it ends in eval mode.

    `progress` wraps the batches; None where `stop()` is true before the end (a process alone: several would
    wait for each other). Raises TrainingError where the output is not finite, DataError, in all processes at the
    end, where too many pictures could not be read.
    """
    network = optimize_for_inference(model) if isinstance(model, VAN) else model
    network.eval()
    classes = model.num_classes
    pictures, right, in_top5 = np.zeros((3, classes), np.int64)
    matrix = np.zeros((classes, classes), np.int32) if confusion else None
    loss_sum = 0.0
    for batch in progress(loader.epoch(0)):
        if processes.count == 1 and stop():
            return None
        counted = batch.weights > 0
        truth = labels[batch.indices[counted]]
        logits = _logits(network, batch.pictures)[counted]
        order = np.argsort(-logits, axis=1, kind="stable")[:, :5]
        hits = order == truth[:, None]
        pictures += np.bincount(truth, minlength=classes)
        right += np.bincount(truth[hits[:, 0]], minlength=classes)
        in_top5 += np.bincount(truth[hits.any(1)], minlength=classes)
        if confusion:
            np.add.at(matrix, (truth, order[:, 0]), 1)
        loss_sum += _cross_entropy(logits, truth)
    loader.report_unreadable(processes.gathered(loader.unreadable))
    matrix = processes.sum(matrix) if confusion else None
    total = float(processes.sum(np.array([loss_sum], np.float64))[0])
    pictures, right, in_top5 = processes.sum(np.stack([pictures, right, in_top5]))
    return Evaluation(pictures=pictures, right=right, in_top5=in_top5, loss_sum=total, confusion=matrix)


def _logits(network, pictures: np.ndarray) -> np.ndarray:
    with jt.no_grad():
        logits = network(jt.array(pictures)).numpy()
    if not np.isfinite(logits).all():
        raise TrainingError(
            "the network's output is not finite (NaN or infinite): its weights are damaged, or training diverged"
        )
    return logits.astype(np.float64)


def _cross_entropy(logits: np.ndarray, truth: np.ndarray) -> float:
    """Summed over the pictures."""
    shifted = logits - logits.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(truth)), truth]).sum())
