"""What a classifier makes of pictures: its likeliest classes, with labels and probabilities."""

from __future__ import annotations

from os import PathLike
from typing import NamedTuple

import numpy as np

from ..errors import CheckpointError, NoHead
from ..inference.labels import Label, checked, labels_for
from ..inference.stream import Answerer, finite_outputs, positive
from ..pictures.preprocess import preprocess, short_side


class Prediction(NamedTuple):
    """A class, its name, its probability, and its WordNet id where the labels have them."""

    index: int
    label: str
    probability: float
    wnid: str | None = None

    @property
    def entry(self) -> dict:
        """Its object in JSON."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class LikeliestClasses(Answerer):
    """The classes of each picture by probability, best first.

    `name` is the weights', for messages; `given` labels, read from `source`, stand in for the weights' own. Raises NoHead for
    a network without classes, CheckpointError where it does not take pictures, JvanError for labels that are not one a class.
    """

    def __init__(self, name: str, model, dtype: str = "float32", given: tuple[Label, ...] | None = None, source=None):
        metadata = model.metadata
        _check_network(name, metadata)

        from ..inference.optimize import optimize_for_inference
        from ..inference.room import Room
        from ..models.van import VAN

        config, preprocessing = metadata.config, metadata.preprocessing
        self.name, self.preprocessing = name, preprocessing
        self.model = optimize_for_inference(model, dtype) if isinstance(model, VAN) else model
        self.room = Room(name, self.model, (config.in_chans, preprocessing.size, preprocessing.size))
        self.room.check(1)
        self.side, self.ahead = short_side(preprocessing), self.room.ahead
        if given is None:
            self.labels = labels_for(metadata.labels, config.num_classes)
        else:
            self.labels = checked(
                given, config.num_classes, source if isinstance(source, (str, PathLike)) else "labels"
            )

    def prepare(self, picture) -> np.ndarray:
        """(C, size, size) float32"""
        return preprocess(picture, self.preprocessing)

    def options(self, topk: int = 5) -> dict:
        """`topk`: how many classes a picture; all of them if there are fewer."""
        return {"topk": positive("topk", topk)}

    def answers(self, prepared: list[np.ndarray], topk: int) -> list[list[Prediction]]:
        self.room.check(len(prepared))
        probabilities = softmax(finite_outputs(self.name, self.model, np.stack(prepared)))
        return [self._best(row, topk) for row in probabilities]

    def _best(self, probabilities: np.ndarray, topk: int) -> list[Prediction]:
        order = np.argsort(-probabilities, kind="stable")[:topk]
        return [Prediction(int(i), self.labels[i].name, float(probabilities[i]), self.labels[i].wnid) for i in order]


def softmax(logits: np.ndarray) -> np.ndarray:
    """(N, classes) to probabilities, in float64 and without overflow."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def table(answer: list[Prediction]):
    """Yield a line a class: rank, probability, WordNet id where any has one, label."""
    ids = any(prediction.wnid for prediction in answer)
    for rank, (_, label, probability, wnid) in enumerate(answer, start=1):
        yield f"{rank:4d}  {100 * probability:6.2f} %  " + (f"{wnid or '':9}  " if ids else "") + label


def _check_network(name: str, metadata) -> None:
    if metadata.config.num_classes == 0:
        raise NoHead(
            f"{name}: a network without a classification head cannot name pictures; give a classifier's weights"
        )
    channels, means = metadata.config.in_chans, len(metadata.preprocessing.mean)
    if channels not in (1, 3) or channels != means:
        raise CheckpointError(
            f"{name}: the network takes {channels} channels and its preprocessing describes {means}; "
            "pictures give 3, or 1 as grey"
        )
