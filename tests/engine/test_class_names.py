"""Classes by name in any form of Unicode, or in none: what they match in weights of 0.1.0, and in its states."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

from jvan.checkpoints.metadata import Metadata
from jvan.classification.build import _check_names
from jvan.classification.measure import match
from jvan.classification.pictures import data_digest
from jvan.data.source import open_split
from jvan.errors import DataError, TrainingError
from jvan.inference.labels import Label
from jvan.variants import VANConfig

from ..datasets.drawn import class_files, write

NFC, NFD = "caf\xe9", "cafe\u0301"
DOG, HORSE = (name.encode("gbk").decode("utf-8", "surrogateescape") for name in "狗马")
LOST = "\ufffd\ufffd"  # what 0.1.0 made of either


@pytest.mark.parametrize(
    ("labels", "classes", "places"),
    [
        (("tea", NFD), (NFC, "tea"), [1, 0]),
        (("tea", NFC), (NFC, "tea"), [1, 0]),
        (("tea", LOST), (DOG, "tea"), [1, 0]),
        ((HORSE, DOG), (DOG, HORSE), [1, 0]),
        ((LOST, DOG), (DOG,), [1]),
        ((f"{NFD}{LOST}", "tea"), (f"{NFC}{HORSE}",), [0]),
    ],
)
def test_labels_are_found(labels, classes, places):
    assert match(classes, tuple(map(Label, labels)), True)[0].tolist() == places


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ((LOST, "tea"), (DOG, HORSE)),
        ((LOST, LOST), (DOG, HORSE)),
        ((NFC, NFD), (NFC,)),
        ((HORSE, "tea"), (DOG,)),
        ((HORSE,), (LOST,)),
    ],
)
def test_classes_that_may_be_one_of_several_are_refused(labels, classes):
    with pytest.raises(DataError, match="the data have the class") as error:
        match(classes, tuple(map(Label, labels)), True)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("stored", "now"), [((NFD, "tea"), (NFC, "tea")), ((LOST, LOST), (DOG, HORSE)), ((DOG,), (DOG,))]
)
def test_a_head_is_kept(stored, now):
    metadata = Metadata(VANConfig((8,) * 4, (1,) * 4, num_classes=len(now)), labels=stored)
    _check_names(SimpleNamespace(weights="w", data="d"), metadata, now)
    with pytest.raises(TrainingError, match="named otherwise"):
        _check_names(SimpleNamespace(weights="w", data="d"), metadata, (*now[:-1], "wasp"))


def test_a_state_of_0_1_goes_on_with_the_same_pictures(tmp_path):
    """The digest is that of names as they lie there, with � for what is no text."""
    split = open_split(write(tmp_path / "data", class_files((NFD, DOG, "tea"), each=1)))
    digest = hashlib.sha256("\n".join((NFD, "tea", LOST)).encode())
    digest.update(np.arange(3, dtype="<i4"))
    digest.update(b"0.png\n" * 3)
    assert split.classes == (NFC, "tea", DOG) and data_digest(split) == digest.hexdigest()
