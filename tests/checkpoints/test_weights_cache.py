"""The cache: verified once and remembered, never fooled by a changed file, safe for two processes, sound when full."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from jvan.checkpoints.published import fetch, weights_cache
from jvan.checkpoints.published import http as _http
from jvan.checkpoints.published import resolve as resolve_module
from jvan.checkpoints.published.resolve import resolve_weights
from jvan.checkpoints.published.weights_cache import obtain, place
from jvan.errors import DownloadError
from jvan.files import cache_dir, own_cache_dir

from .download_help import CONTENT, OTHER, SHA256, entry, quick_and_clean

UNKNOWN = {"size": None, "sha256": None}
UNKNOWN_DIGITS = {**UNKNOWN, "sha256_prefix": SHA256[:8]}
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    quick_and_clean(monkeypatch, tmp_path / "cache")


@pytest.fixture
def is_the_hub(monkeypatch):
    """The hub itself, played by the server on loopback."""
    monkeypatch.setattr(_http, "is_hub", lambda url: urlsplit(url).hostname == "127.0.0.1")


@pytest.mark.parametrize(
    ("known", "headers", "who"),
    [
        ({"sha256": SHA256}, {}, "the catalogue says " + SHA256),
        ({"sha256": None, "sha256_prefix": SHA256[:8]}, {}, f"the file's name says {SHA256[:8]};"),
        (UNKNOWN, {"X-Linked-Etag": f'"{SHA256}"'}, "the hub says " + SHA256),
    ],
)
def test_another_files_bytes_are_deleted_and_both_hashes_named(served, is_the_hub, known, headers, who):
    served.content, served.headers = OTHER, headers
    with pytest.raises(DownloadError, match=who) as caught:
        obtain(entry(**known))
    assert hashlib.sha256(OTHER).hexdigest() in str(caught.value)
    assert [p.suffix for p in place(entry()).parent.iterdir()] == [".lock"]


def test_an_announced_hash_that_contradicts_the_catalogue_saves_the_download(served, is_the_hub):
    served.headers = {"X-Linked-Etag": '"' + "0" * 64 + '"'}
    with pytest.raises(DownloadError, match=f"announces sha256 {'0' * 64}, the catalogue has {SHA256}"):
        obtain(entry())
    assert not place(entry()).with_name("van_tiny.pth.tar.part").exists()


@pytest.mark.parametrize("etag", [None, '"' + "a" * 40 + '"'], ids=["none", "git's SHA-1"])
def test_unverified_is_said_each_time_where_nobody_announces_a_hash(served, is_the_hub, etag, capsys):
    served.headers = {"X-Linked-Etag": etag} if etag else {}
    for _ in range(2):
        assert obtain(entry(**UNKNOWN)).read_bytes() == CONTENT
        said = "van_b0.test is unverified: neither the catalogue nor the hub gives its hash; the file's sha256 is "
        assert said + SHA256 in capsys.readouterr().err


def test_what_the_hub_announced_is_remembered(served, is_the_hub, capsys):
    served.headers = {"X-Linked-Etag": f'"{SHA256}"'}
    for _ in range(2):
        obtain(entry(**UNKNOWN))
    served.headers = {}
    place(entry()).unlink()
    obtain(entry(**UNKNOWN))
    assert "unverified" not in capsys.readouterr().err


def test_that_eight_digits_match_is_said_once(served, capsys):
    digits = entry(**UNKNOWN_DIGITS)
    assert obtain(digits).read_bytes() == CONTENT
    assert f"van_b0.test: eight digits of its sha256 are published, and they match; the whole one is {SHA256}" in (
        capsys.readouterr().err
    )
    obtain(digits)
    assert capsys.readouterr().err == ""


def test_the_second_start_neither_asks_nor_hashes(served, monkeypatch):
    path = obtain(entry())
    monkeypatch.setattr(weights_cache, "examine", None)
    assert obtain(entry()) == path
    assert len(served.requests) == 1


@pytest.mark.parametrize("known", [{}, UNKNOWN, UNKNOWN_DIGITS], ids=["all known", "nothing known", "digits known"])
def test_a_changed_file_in_the_cache_is_noticed_and_kept(served, known):
    path = obtain(entry(**known))
    path.write_bytes(OTHER)
    os.utime(path, ns=(1, 1))
    with pytest.raises(DownloadError, match=hashlib.sha256(OTHER).hexdigest()) as caught:
        obtain(entry(**known))
    assert "delete it and try again" in str(caught.value)
    assert path.read_bytes() == OTHER


def test_a_touched_file_is_hashed_again_and_accepted(served):
    path = obtain(entry())
    os.utime(path, ns=(1, 1))
    assert obtain(entry()) == path
    record = json.loads(path.with_name(path.name + ".sha256.json").read_text())
    assert (record["mtime_ns"], record["sha256"]) == (1, SHA256)
    assert len(served.requests) == 1


def test_a_file_put_there_by_hand_is_verified(served, capsys):
    path = place(entry())
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert obtain(entry()) == path
    assert not served.requests
    assert "unverified" not in capsys.readouterr().err
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError, match="is not the published file"):
        obtain(entry())


@pytest.mark.parametrize("junk", ["", "[]", "{}", '{"sha256": 1, "size": 2, "mtime_ns": 3, "proven": true}', "\0"])
def test_a_broken_record_is_no_proof(served, junk):
    path = obtain(entry())
    path.write_bytes(OTHER)
    path.with_name(path.name + ".sha256.json").write_text(junk)
    with pytest.raises(DownloadError, match="is not the published file"):
        obtain(entry())


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert (cache_dir(), own_cache_dir()) == (tmp_path / "cache", tmp_path / "xdg" / "jvan")
    monkeypatch.delenv("JVAN_CACHE")
    assert cache_dir() == own_cache_dir() == tmp_path / "xdg" / "jvan"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == own_cache_dir() == tmp_path / "home" / ".cache" / "jvan"


def test_a_cache_that_cannot_be_made(served, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("JVAN_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="Not a directory; name another folder in JVAN_CACHE"):
        obtain(entry())


def test_a_name_from_the_catalogue_is_resolved_to_its_file(served, monkeypatch):
    monkeypatch.setattr(resolve_module, "catalogue", lambda: {"van_b0.test": entry()})
    assert resolve_weights("van_b0.test").read_bytes() == CONTENT
    assert resolve_module.entry_for(resolve_weights("van_b0.test")) == entry()


@pytest.mark.parametrize("lock", [None, "refused"])
def test_without_locks_a_part_file_of_its_own(served, monkeypatch, lock):
    def refuse(*_):
        raise OSError(37, "No locks available")

    if lock is None:
        monkeypatch.setitem(sys.modules, "fcntl", None)
    else:
        monkeypatch.setattr("fcntl.flock", refuse)
    seen = []
    original = fetch.download
    monkeypatch.setattr(
        fetch, "download", lambda url, part, wanted: seen.append(part.path) or original(url, part, wanted)
    )
    path = obtain(entry())
    assert path.read_bytes() == CONTENT
    assert re.fullmatch(r"van_tiny\.pth\.tar\.[0-9a-f]{16}\.part", seen[0].name)
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, f"{path.name}.lock", f"{path.name}.sha256.json"]


SCRIPT = """
import sys
from tests.checkpoints.download_help import entry
from jvan._cli import command
from jvan.checkpoints.published.weights_cache import obtain

@command
def main(argv):
    print(obtain(entry()))

sys.exit(main([]))
"""


@pytest.fixture
def process():
    """process(prefix) starts another Python that obtains the same entry; all are ended with the test."""
    running = []

    def start(prefix=""):
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", prefix + SCRIPT],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return running[-1]

    yield start
    for one in running:
        one.kill()
        one.communicate()


def test_two_processes_download_once(served, process):
    served.gate = threading.Event()
    first = process()
    assert "downloading" in first.stderr.readline()
    second = process()
    assert "another process is downloading van_tiny.pth.tar; waiting" in second.stderr.readline()
    served.gate.set()
    for one in (first, second):
        assert one.communicate(timeout=30)[0].strip() == str(place(entry()))
        assert one.returncode == 0
    assert len(served.requests) == 1
    assert place(entry()).read_bytes() == CONTENT


def test_a_killed_download_leaves_no_lock_and_is_resumed(served, process):
    served.gate = threading.Event()
    first = process()
    assert "downloading" in first.stderr.readline()
    part = place(entry()).with_name("van_tiny.pth.tar.part")
    while part.stat().st_size < len(CONTENT) // 2:
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=30)
    served.gate.set()
    assert obtain(entry()).read_bytes() == CONTENT
    assert served.ranges_asked == [None, f"bytes={len(CONTENT) // 2}-"]


def test_a_full_disk_is_one_line_and_the_part_is_kept(served, process):
    pytest.importorskip("resource")
    full = process("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n")
    output, error = full.communicate(timeout=30)
    assert (full.returncode, output) == (1, "")
    assert error.splitlines()[-1].endswith("File too large; 0.1 MB are kept and the next run goes on from there")
    assert "Traceback" not in error
    assert obtain(entry()).read_bytes() == CONTENT
    assert served.ranges_asked[-1] == "bytes=100000-"
