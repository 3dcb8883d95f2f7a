"""A classifier measured on labelled pictures: the classes of network and data are matched by name, then counted."""

from __future__ import annotations

from collections import Counter

import numpy as np

from .._text import in_nfc
from ..checkpoints.published.catalogue import entry_with
from ..checkpoints.published.resolve import entry_for
from ..data.loader import Loader
from ..data.name_list import as_replaced
from ..data.source import open_split
from ..data.transforms import Evaluate
from ..engine.parallel import Processes
from ..errors import DataError
from ..inference.labels import Label
from .evaluate import evaluate
from .results import Measure

LARGEST_CONFUSION = 5000  # classes; the matrix then takes 100 MB


def measure(predictor, data, options, say, progress) -> Measure:
    """Run the predictor's network over the validation part of `data`, or all of it where it has no parts.

    options: batch_size, workers, max_pixels, and confusion, which insists on the matrix; without it, one of too many
    classes is left out. Raises DataError where the data have a class that the network does not know, and where the
    matrix that is asked for would be too large.
    """
    known = len(predictor.labels) <= LARGEST_CONFUSION
    if options.confusion and not known:
        raise DataError(
            f"the network has {len(predictor.labels)} classes, and a confusion matrix is for {LARGEST_CONFUSION} at the most; leave it out"
        )
    split = open_split(data, "val")
    labels, how = match(split.classes, predictor.labels, predictor.metadata.labels is not None)
    processes = Processes()
    if processes.is_rank_zero:
        say(split, how)
    with Loader(
        split, Evaluate(predictor.metadata.preprocessing), seed=0, batch_size=options.batch_size, workers=options.workers,
        rank=processes.rank, ranks=processes.count, shuffle=False, drop_last=False, max_pixels=options.max_pixels,
    ) as loader:  # fmt: skip
        predictor.answerer.room.check(loader.work.rows, more=loader.memory)
        total = len(loader)
        truth = labels[split.labels]
        found = evaluate(
            predictor.model,
            loader,
            truth,
            processes,
            progress=lambda batches: progress(batches, total),
            confusion=known,
        )
        corrupt = tuple(loader.corrupt)
    entry = entry_for(predictor.weights) or entry_with(predictor.metadata.source_sha256)
    return Measure(found, predictor, split.title, corrupt, entry.top1 if entry else None, processes.is_rank_zero)


def match(classes: tuple[str, ...], labels: tuple[Label, ...], named: bool) -> tuple[np.ndarray, str]:
    """(the network's index of each class of the data, how it was found): by WordNet id or name, or by place where the weights name none.

    Raises DataError for a class that the network has not, or has twice.
    """
    if not named:
        if len(classes) != len(labels):
            raise DataError(
                f"the data have {len(classes)} classes, the network has {len(labels)}, and the weights do not name theirs; "
                "give weights of these classes"
            )
        return np.arange(len(classes)), "classes by their order, since the weights do not name theirs"
    places: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        for name in {in_nfc(name) for name in (label.name, label.wnid) if name}:
            places.setdefault(name, []).append(index)
    spelled = Counter(map(as_replaced, classes))
    return np.array([_place(name, places, spelled, len(labels)) for name in classes]), "classes by name"


def _place(name: str, places: dict[str, list[int]], spelled: Counter, count: int) -> int:
    """The index of one class, by its name or, in labels of 0.1.0, by its name with � for bytes that are no UTF-8."""
    replaced = as_replaced(name)
    found = places.get(name) or places.get(replaced, [])
    if len(found) != 1:
        what = "none" if not found else f"{len(found)} (name its folder by its WordNet id)"
    elif name not in places and spelled[replaced] > 1:
        what = f"perhaps {replaced!r}, and so are {spelled[replaced] - 1} other ones,"
    else:
        return found[0]
    raise DataError(
        f"the data have the class {name!r}, which is {what} of the network's {count} classes; "
        "rename its folder, or give weights of these classes"
    )
