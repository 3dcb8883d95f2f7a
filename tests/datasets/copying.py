"""What the tests of unpacked copies share: planted copies, and looks at what was read."""

import os

import numpy as np
import pytest

from jvan.data.archive import Archive
from jvan.data.decompress import kind_of
from jvan.data.source import open_split

from .drawn import class_files, encoded, tar_of

OTHER = 54321  # a user that this machine does not have
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
PICTURES, OTHERS = class_files(), {name: encoded(50) for name in class_files()}


def name_of(archive, old=False) -> str:
    """The copy's name, which anybody can work out; `old`: as 0.1.0 called it."""
    looked = Archive(str(archive), kind_of(archive.read_bytes()[:6]))
    return looked.copy_name_of_0_1 if old else looked.copy_name


def plant(place, files, owner=None):
    """An uncompressed tar file as a copy."""
    tar_of(place, files).chmod(0o644)
    if owner is not None:
        os.chown(place, owner, owner)
    return place


def first_picture(path) -> np.ndarray:
    return np.asarray(open_split(path).picture(0))


def is_of(picture: np.ndarray, files) -> bool:
    """Whether the first picture is that of these files."""
    import io

    from PIL import Image

    with Image.open(io.BytesIO(files["ant/0.png"])) as wanted:
        return np.array_equal(picture, np.asarray(wanted))


def copies(folder) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".tar"))
