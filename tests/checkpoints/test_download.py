"""Downloading from a real server on loopback: resumed, bounded, retried, redirected to a store."""

from __future__ import annotations

import os
import shutil
import socket
from collections import namedtuple
from urllib.parse import urlsplit

import pytest

from jvan.checkpoints.published import download
from jvan.checkpoints.published import http as _http
from jvan.checkpoints.published.weights_cache import obtain, place

from .download_help import CONTENT, OTHER, PATH, SHA256, entry, fails, quick_and_clean
from .file_server import Served, serve

GONE = {"cut": None, "status": 404}
BACK = {"cut": None, "status": None}


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    quick_and_clean(monkeypatch, tmp_path / "cache")


@pytest.fixture
def is_the_hub(monkeypatch):
    """The hub itself, played by the server on loopback."""
    monkeypatch.setattr(_http, "is_hub", lambda url: urlsplit(url).hostname == "127.0.0.1")


def part():
    path = place(entry())
    return path.with_name(path.name + ".part")


def test_a_whole_file_under_its_published_name(start, capsys):
    served = start()
    path = obtain(entry())
    assert path.name == "van_tiny.pth.tar"
    assert path.read_bytes() == CONTENT
    assert [address for address, _ in served.requests] == [PATH]
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, f"{path.name}.lock", f"{path.name}.sha256.json"]
    error = capsys.readouterr().err
    assert "downloading van_tiny.pth.tar (0.3 MB)" in error
    assert "unverified" not in error


def test_a_cut_is_mended_at_once_from_where_it_was(start):
    served = start(cut=100_000, then=[{"cut": 50_000}, BACK])
    assert obtain(entry()).read_bytes() == CONTENT
    assert served.ranges_asked == [None, "bytes=100000-", "bytes=150000-"]
    assert [headers.get("If-Range") for _, headers in served.requests] == [None, '"first"', '"first"']


def test_a_later_run_goes_on_from_the_part_file(start):
    served = start(cut=120_000, then=[GONE])
    fails("HTTP 404 Not Found")
    assert part().read_bytes() == CONTENT[:120_000]
    vars(served).update(BACK)
    assert obtain(entry()).read_bytes() == CONTENT
    assert served.ranges_asked[-1] == "bytes=120000-"
    assert not part().exists()


@pytest.mark.parametrize("believes_if_range", [True, False], ids=["RFC 9110", "ignores If-Range"])
def test_a_file_that_changed_meanwhile_is_fetched_anew(start, believes_if_range):
    changed = {"content": CONTENT, "etag": '"second"', "cut": None}
    served = start(OTHER, cut=120_000, believes_if_range=believes_if_range, then=[changed])
    assert obtain(entry()).read_bytes() == CONTENT
    assert served.ranges_asked[1] == "bytes=120000-"


def test_a_server_without_ranges_is_asked_for_the_whole_again(start):
    served = start(cut=120_000, ranges=False, then=[BACK])
    assert obtain(entry()).read_bytes() == CONTENT
    assert served.ranges_asked == [None, "bytes=120000-"]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_nothing_is_resumed(start, etag):
    served = start(cut=120_000, etag=etag, then=[BACK])
    assert obtain(entry()).read_bytes() == CONTENT
    assert served.ranges_asked == [None, None]


def test_a_server_that_resumes_elsewhere_is_not_believed(start):
    served = start(cut=120_000, resumes_at=100_000, then=[BACK])
    assert obtain(entry(sha256=None)).read_bytes() == CONTENT
    assert served.ranges_asked == [None, "bytes=120000-", None]


def test_what_another_address_left_is_not_gone_on_with(start):
    start(OTHER, cut=120_000, then=[GONE])
    fails("HTTP 404")
    served = start(CONTENT)
    assert obtain(entry(sha256=None)).read_bytes() == CONTENT
    assert served.ranges_asked == [None]


def test_416_for_a_part_begins_anew(start):
    served = start(cut=120_000, then=[{"cut": None, "status": 416}, BACK])
    assert obtain(entry()).read_bytes() == CONTENT
    assert served.ranges_asked == [None, "bytes=120000-", None]


def test_a_part_that_was_complete_needs_no_server(start, monkeypatch):
    start()
    part().parent.mkdir(parents=True)
    part().write_bytes(CONTENT)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert obtain(entry()).read_bytes() == CONTENT


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(start):
    served = start(cut=1000, ranges=False)
    fails(r"closed at 1000 of 300000 bytes \(4 attempts\)")
    assert len(served.requests) == 4


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_asked_again(start, status):
    served = start(status=status, then=[{}, BACK])
    assert obtain(entry()).read_bytes() == CONTENT
    assert len(served.requests) == 3


@pytest.mark.parametrize(("status", "words"), [(401, "Unauthorized"), (404, "Not Found"), (410, "Gone")])
def test_a_final_refusal_is_not_asked_again(start, status, words):
    served = start(status=status)
    fails(f"HTTP {status} {words}")
    assert len(served.requests) == 1


def test_the_next_address_is_tried_where_the_first_fails(start, capsys):
    with serve(Served(CONTENT)) as second:
        served = start(status=404)
        both = entry(urls=("https://huggingface.co" + PATH, second + "/?dl=1"))
        assert obtain(both).read_bytes() == CONTENT
    assert len(served.requests) == 1


UNKNOWN = {"size": None, "sha256": None}


@pytest.mark.parametrize(
    ("known", "what", "message"),
    [
        ({}, {"length": 299_999}, "catalogue says 300000 bytes, the server says 299999 bytes"),
        ({}, {"length": 400_000}, "catalogue says 300000 bytes, the server says 400000 bytes"),
        (UNKNOWN, {"length": 400_000, "ranges": False}, "closed at 300000 of 400000 bytes"),
        (UNKNOWN, {"length": 1 << 40}, "announces 1099511627776 bytes; from 1 to 4294967296 are believed"),
        (UNKNOWN, {"length": 0}, "announces 0 bytes"),
        ({**UNKNOWN, "size_approx_mb": 0.2}, {}, "announces 300000 bytes; from 1 to 220000"),
        ({**UNKNOWN, "size_approx_mb": 0.2}, {"chunked": True}, "sends more than 220000 bytes"),
        ({}, {"headers": {"Content-Encoding": "gzip"}}, "encoded as 'gzip'"),
    ],
    ids=str,
)
def test_lengths_that_lie(start, known, what, message):
    start(**what)
    fails(message, of=entry(**known))
    assert not part().exists() or part().stat().st_size <= len(CONTENT)


def test_no_byte_beyond_the_announced_length_is_kept(start):
    start(CONTENT + b"and more", length=len(CONTENT))
    assert obtain(entry()).read_bytes() == CONTENT


def test_a_body_in_chunks(start):
    start(chunked=True)
    assert obtain(entry()).read_bytes() == CONTENT


def test_a_body_in_chunks_that_is_too_long_leaves_nothing(start):
    start(chunked=True)
    fails("sends more than 110000 bytes", of=entry(**UNKNOWN, size_approx_mb=0.1))
    assert part().stat().st_size == 0


HUB_SAYS = {"X-Linked-Etag": f'"{SHA256}"', "X-Linked-Size": str(len(CONTENT))}


def test_redirects_to_a_store_and_the_hash_that_the_hub_announces_first(start, is_the_hub, capsys):
    served = start(redirect="/store", redirect_headers=HUB_SAYS)
    assert obtain(entry(**UNKNOWN)).read_bytes() == CONTENT
    assert [address for address, _ in served.requests] == [PATH, "/store"]
    assert "unverified" not in capsys.readouterr().err


def test_a_size_that_the_hub_denies(start, is_the_hub):
    start(headers={"X-Linked-Size": "300001"})
    fails("catalogue says 300000 bytes, the hub says 300001 bytes")


def test_offline_says_where_the_file_is_and_where_to_put_it(monkeypatch):
    with socket.socket() as listener:  # bound but not listening: the port is ours and refuses
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        message = fails("Connection refused")
        assert address + PATH in message
        assert f"Put the file at {place(entry())} by hand" in message

        monkeypatch.delenv("HF_ENDPOINT")
        monkeypatch.setenv("https_proxy", address)
        assert "by hand, or name a mirror of the hub in HF_ENDPOINT" in fails("Connection refused")


def test_the_mirror_serves_only_the_hubs_addresses(start, monkeypatch):
    served = start()
    monkeypatch.setenv("HF_ENDPOINT", os.environ["HF_ENDPOINT"] + "/prefix/")
    assert obtain(entry()).read_bytes() == CONTENT
    assert served.requests[0][0] == "/prefix" + PATH


def test_no_room_on_the_disk_is_seen_before_the_download(start, monkeypatch):
    start()
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    fails("0.3 MB are needed and 0.0 MB are free; make room or name another folder in JVAN_CACHE")


def test_a_bar_on_a_terminal_and_a_line_elsewhere(start, monkeypatch, capsys):
    start()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    obtain(entry())
    error = capsys.readouterr().err
    assert "%|" in error
    assert "downloading" not in error


@pytest.mark.parametrize(("cut", "most", "attempts"), [(70_000, 3, 3), (1, 60, 4)], ids=["much", "a byte"])
def test_attempts_are_bounded_though_each_brings_something(start, monkeypatch, cut, most, attempts):
    monkeypatch.setattr(download, "MOST_ATTEMPTS", most)
    served = start(cut=cut)
    fails(rf"closed at {cut * attempts} of 300000 bytes \({attempts} attempts\)")
    assert len(served.requests) == attempts
