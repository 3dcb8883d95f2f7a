"""Top-1, top-5, per class and the confusion matrix, counted exactly over any number of processes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jittor as jt
import numpy as np

from ..errors import TrainingError
from ..inference.optimize import optimize_for_inference


@dataclass(frozen=True)
class Evaluation:
    """What a network makes of labelled pictures; `confusion[label, answer]` counts pictures."""

    confusion: np.ndarray
    in_top5: np.ndarray  # of each class
    loss_sum: float

    @cached_property
    def count(self) -> int:
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        return float(np.trace(self.confusion)) / max(self.count, 1)

    @property
    def top5(self) -> float:
        return float(self.in_top5.sum()) / max(self.count, 1)

    @property
    def loss(self) -> float:
        """The mean cross-entropy."""
        return self.loss_sum / max(self.count, 1)

    def of_class(self, index: int) -> tuple[int, float, float]:
        """(pictures, top-1, top-5) of one class."""
        count = int(self.confusion[index].sum())
        return count, self.confusion[index, index] / max(count, 1), self.in_top5[index] / max(count, 1)


def evaluate(model, loader, labels: np.ndarray, processes, progress=iter) -> Evaluation:
    """Run `model` over the pictures of `loader` (its batches' `indices` point into `labels`); it ends in eval mode.

    `progress` wraps the batches. Raises TrainingError where the output is not finite.
    """
    model.eval()
    network = model if jt.flags.use_cuda else optimize_for_inference(model)
    classes = model.num_classes
    confusion, in_top5 = np.zeros((classes, classes), np.int64), np.zeros(classes, np.int64)
    loss_sum = 0.0
    for batch in progress(loader.epoch(0)):
        counted = batch.weights > 0
        with jt.no_grad():
            logits = network(jt.array(batch.pictures)).numpy()[counted].astype(np.float64)
        if not np.isfinite(logits).all():
            raise TrainingError(
                "the network's output is not finite (NaN or infinite): its weights are damaged, or training diverged"
            )
        truth = labels[batch.indices[counted]]
        order = np.argsort(-logits, axis=1, kind="stable")[:, :5]
        np.add.at(confusion, (truth, order[:, 0]), 1)
        np.add.at(in_top5, truth[(order == truth[:, None]).any(1)], 1)
        largest = logits.max(1, keepdims=True)
        loss_sum += float(
            (np.log(np.exp(logits - largest).sum(1)) + largest[:, 0] - logits[np.arange(len(truth)), truth]).sum()
        )
    sums = processes.sum(np.concatenate([confusion.ravel(), in_top5]))
    total = float(processes.sum(np.array([loss_sum], np.float64))[0])
    return Evaluation(sums[:-classes].reshape(classes, classes), sums[-classes:], total)
