"""What `jvan validate` says of a classifier: JSON, a table for a terminal, rows for spreadsheets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._text import cell
from ..engine.task import Measured
from .evaluate import Evaluation

SHOWN = 40  # classes in the table
CONFUSED = 5  # pairs of classes in the table
COLUMNS = ("index", "class", "pictures", "top1", "top5")


@dataclass(frozen=True)
class Measure(Measured):
    """The counts, whose classes are the network's `labels`; what was measured; unreadable pictures; the claim in per cent."""

    evaluation: Evaluation
    predictor: object  # a tasks.Predictor
    data: str
    corrupt: tuple[tuple[str, str], ...]
    claim: float | None
    is_rank_zero: bool

    def classes(self):
        """Yield (index, label, pictures, top-1, top-5) of every class that has pictures."""
        found, labels = self.evaluation, self.predictor.labels
        for index in map(int, np.flatnonzero(found.pictures)):
            count = int(found.pictures[index])
            yield (
                index,
                labels[index].name,
                count,
                float(found.right[index] / count),
                float(found.in_top5[index] / count),
            )

    def confused(self) -> list[tuple[int, int, int]]:
        """(label, answer, pictures) of every wrong answer, the commonest first; none where the matrix is not kept."""
        wrong = [pair for pair in self._pairs() if pair[0] != pair[1]]
        return sorted(wrong, key=lambda row: (-row[2], row[0], row[1]))

    def _pairs(self) -> list[tuple[int, int, int]]:
        """(label, answer, pictures) of all answers, right ones too, by label."""
        matrix = self.evaluation.confusion
        return [] if matrix is None else [(int(a), int(b), int(matrix[a, b])) for a, b in np.argwhere(matrix)]

    def document(self) -> dict:
        result = self.evaluation
        return {
            "data": self.data, "weights": self.predictor.weights, "arch": self.predictor.metadata.config.arch,
            "pictures": result.count, "top1": result.top1, "top5": result.top5, "loss": result.loss, "claim": self.claim,
            "corrupt": [list(row) for row in self.corrupt],
            "classes": [dict(zip(COLUMNS, row)) for row in self.classes()],
            "confusion": [list(pair) for pair in self._pairs()],
        }  # fmt: skip

    def table(self):
        result, labels, rows, confused = self.evaluation, self.predictor.labels, list(self.classes()), self.confused()
        claim = f"   (claimed: {self.claim:.2f} %)" if self.claim is not None else ""
        yield from (f"top-1  {100 * result.top1:6.2f} %{claim}", f"top-5  {100 * result.top5:6.2f} %")
        yield from (f"pictures {result.count}", "", f"{'top-1':>8}  {'top-5':>8}  pictures  class")
        for _, name, count, top1, top5 in rows[:SHOWN]:
            yield f"{100 * top1:6.2f} %  {100 * top5:6.2f} %  {count:8d}  {name}"
        if len(rows) > SHOWN:
            yield f"… and {len(rows) - SHOWN} more classes: --csv FILE has them all"
        if confused:
            yield from ("", "most often confused")
        for label, answer, count in confused[:CONFUSED]:
            yield f"{count:8d}  {labels[label].name} taken for {labels[answer].name}"

    def rows(self):
        yield COLUMNS
        for index, name, *numbers in self.classes():
            yield (index, cell(name), *numbers)

    def matrix(self):
        """A row a class of the data, a column a class that was answered or is in the data."""
        matrix, labels = self.evaluation.confusion, self.predictor.labels
        rows = [index for index, *_ in self.classes()]
        columns = sorted({*rows, *matrix.sum(0).nonzero()[0].tolist()})
        yield ("class", *(cell(labels[column].name) for column in columns))
        for row in rows:
            yield (cell(labels[row].name), *(int(matrix[row, column]) for column in columns))
