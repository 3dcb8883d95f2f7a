"""What the tests of downloading share: a file's bytes, an entry that describes them, a clean environment."""

from __future__ import annotations

import contextlib
import hashlib
import random

import pytest

from jvan.checkpoints.published import bounded as _bounded
from jvan.checkpoints.published import download
from jvan.checkpoints.published.catalogue import Entry
from jvan.checkpoints.published.weights_cache import obtain, place
from jvan.errors import DownloadError

from .file_server import Served, serve

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = random.Random(1).randbytes(300_000)
PATH = "/VAN/tiny/resolve/main/van_tiny.pth.tar"


def entry(**changes) -> Entry:
    """An entry of the hub whose size and hash are those of CONTENT unless changed."""
    known = {"size": len(CONTENT), "sha256": SHA256, **changes}
    urls = known.pop("urls", ("https://huggingface.co" + PATH,))
    return Entry(name="van_b0.test", arch="van_b0", file="van_tiny.pth.tar", origin="official", urls=urls, **known)


def quick_and_clean(monkeypatch, cache) -> None:
    """No proxy of the machine's, empty caches, the user's own as well, short pauses."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("JVAN_CACHE", str(cache))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.with_name("own")))
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(_bounded, "TIMEOUT", 5.0)


@contextlib.contextmanager
def servers(monkeypatch):
    """begin(**what) runs a server, makes it the hub's mirror and gives its Served."""
    with contextlib.ExitStack() as stack:

        def begin(content=CONTENT, **what) -> Served:
            served = Served(content, **what)
            monkeypatch.setenv("HF_ENDPOINT", stack.enter_context(serve(served)))
            return served

        yield begin


def fails(message: str, *, of=None) -> str:
    """The one line, which matches `message`, with which an entry cannot be had."""
    with pytest.raises(DownloadError, match=message) as caught:
        obtain(of or entry())
    assert "\n" not in str(caught.value)
    assert not place(entry()).exists()
    return str(caught.value)
