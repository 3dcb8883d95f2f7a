"""The archives of real pictures that may lie beside the checkout, as `jvan train` sees them."""

from pathlib import Path

import numpy as np
import pytest

from jvan.data.source import open_train_and_val
from jvan.errors import DataError
from jvan.inference.labels import imagenet_labels

DATA = Path(__file__).parents[3] / "shared" / "data"


def archive(name) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not here")
    return DATA / name


def test_one_picture_of_each_of_imagenets_classes():
    train, val, said = open_train_and_val(archive("imagenet_sample.tar"))
    assert (len(train), len(val)) == (1000, 100) and "validation repeats 100" in said
    assert train.classes == val.classes == tuple(label.wnid for label in imagenet_labels())
    assert train.labels.tolist() == list(range(1000)) and min(train.picture(999).size) == 256


def test_cifar10_as_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("JVAN_CACHE", str(tmp_path))  # where it is unpacked
    train, val, said = open_train_and_val(archive("cifar10.tar.xz"))
    assert train.classes == val.classes and len(train.classes) == 10 and "cifar10/test" in said
    assert [np.bincount(split.labels).tolist() for split in (train, val)] == [[5000] * 10, [1000] * 10]
    assert train.picture(49_999).size == val.picture(0).size == (32, 32)


@pytest.mark.parametrize(("name", "said"), [("bccd.tar", "class Annotations, ImageSets"), ("camvid.tar", "no folders")])
def test_pictures_without_classes_are_one_line(name, said):
    with pytest.raises(DataError, match=said) as error:
        open_train_and_val(archive(name))
    assert "\n" not in str(error.value) and name in str(error.value)
