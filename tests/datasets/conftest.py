"""What the tests of unpacked copies start from."""

import pytest

from jvan.data.archive import Archive

from .copying import PICTURES
from .drawn import tar_of


@pytest.fixture
def archive(tmp_path):
    """A compressed archive of PICTURES."""
    return tar_of(tmp_path / "set.tar.gz", PICTURES, "w:gz")


@pytest.fixture
def folder(cache):
    """Where copies lie, made by nobody but its owner."""
    path = cache / "data"
    path.mkdir(parents=True, mode=0o755)
    return path


@pytest.fixture
def read(monkeypatch):
    """What of archives was read through: a list that grows."""
    found, content, whole = [], Archive.content, Archive.whole.func

    def counted_content(self):
        found.append("content")
        return content(self)

    monkeypatch.setattr(Archive, "content", counted_content)
    monkeypatch.setattr(Archive.whole, "func", lambda self: found.append("whole") or whole(self))
    return found
