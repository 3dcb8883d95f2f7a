"""What the tests of downloading start from."""

import pytest

from .download_help import CONTENT, servers
from .file_server import Served, serve


@pytest.fixture
def served(monkeypatch):
    """A server of CONTENT that is the hub's mirror."""
    served = Served(CONTENT)
    with serve(served) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield served


@pytest.fixture
def start(monkeypatch):
    """`servers`, as a function."""
    with servers(monkeypatch) as begin:
        yield begin
