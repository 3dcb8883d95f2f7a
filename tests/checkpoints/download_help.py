"""What the tests of downloading share: a file's bytes, an entry that describes them, a clean environment."""

from __future__ import annotations

import hashlib
import random

from jvan.checkpoints import _http, download
from jvan.checkpoints.catalogue import Entry

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
    """No proxy of the machine's, an empty cache, short pauses."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("JVAN_CACHE", str(cache))
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(_http, "TIMEOUT", 5.0)
