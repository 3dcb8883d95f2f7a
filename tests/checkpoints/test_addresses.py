"""Whose address it is, and what of it is shown."""

from __future__ import annotations

import pytest

from jvan.checkpoints.published.addresses import addresses_of, is_hub, is_local, origin_of
from jvan.errors import DownloadError

from .download_help import PATH, entry, quick_and_clean


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    quick_and_clean(monkeypatch, tmp_path / "cache")


@pytest.mark.parametrize(
    ("url", "is_it"),
    [
        ("https://huggingface.co/x", True),
        ("https://HUGGINGFACE.co:443/x", True),
        ("https://huggingface.co", True),
        ("http://huggingface.co/x", False),
        ("http://huggingface.co:443/x", False),
        ("https://huggingface.co:8443/x", False),
        ("https://huggingface.co.evil.org/x", False),
        ("https://huggingface.co@evil.org/x", False),
        ("https://evil@huggingface.co/x", False),
        ("https://evil.org/huggingface.co", False),
        ("https://evil.org#huggingface.co", False),
        ("https://evil.org?https://huggingface.co/", False),
        ("https://xhuggingface.co/x", False),
        ("https://sub.huggingface.co/x", False),
        ("https://huggingface.co./x", False),
        ("https://huggingface.co:/x", False),
        ("https://huggingface.co\\@evil.org/x", False),
        ("https:huggingface.co/x", False),
        ("//huggingface.co/x", False),
        ("https:///huggingface.co/x", False),
        ("file://huggingface.co/x", False),
        ("https://hugging\u017fface.co/x", False),
    ],
)
def test_which_addresses_are_the_hub(url, is_it):
    assert is_hub(url) is is_it


LOCAL = ["127.0.0.1", "127.255.1.2", "localhost", "Localhost.", "x.localhost", "0", "0.0.0.0", "2130706433", "0x7f.1"]
LOCAL += ["0177.1", "127.1", "%3127.0.0.1", "::1", "[::1]", "::ffff:127.0.0.1", "::", "::1%lo"]


@pytest.mark.parametrize("host", LOCAL)
def test_every_spelling_of_this_machine(host):
    assert is_local(host)


@pytest.mark.parametrize(
    "host",
    ["", "a.org", "localhost.org", "128.0.0.1", "10.0.0.1", "169.254.169.254", "::2", "1127.0.0.1", "\u017f", "\0"],
)
def test_what_is_another_machine(host):
    assert not is_local(host)


@pytest.mark.parametrize(
    ("mirror", "url", "shown", "header"),
    [
        ("https://mirror.org", "https://mirror.org" + PATH, "https://mirror.org" + PATH, None),
        ("http://m.lan:8080/", "http://m.lan:8080" + PATH, "http://m.lan:8080" + PATH, None),
        ("https://m.org/tok3n/hub//", "https://m.org/tok3n/hub" + PATH, "https://m.org/…" + PATH, None),
        ("https://me:secret@m.org:8/t", "https://m.org:8/t" + PATH, "https://m.org:8/…" + PATH, "Basic bWU6c2VjcmV0"),
        ("https://tok3n@m.org", "https://m.org" + PATH, "https://m.org" + PATH, "Basic dG9rM246"),
        (
            "http://me:secret@localhost:8",
            "http://localhost:8" + PATH,
            "http://localhost:8" + PATH,
            "Basic bWU6c2VjcmV0",
        ),
        ("https://[::1]:8", "https://[::1]:8" + PATH, "https://[::1]:8" + PATH, None),
        ("https://镜像.cn", "https://镜像.cn" + PATH, "https://镜像.cn" + PATH, None),
    ],
)
def test_a_mirrors_own_part_is_shown_as_scheme_host_and_port(monkeypatch, mirror, url, shown, header):
    monkeypatch.setenv("HF_ENDPOINT", mirror)
    other = "https://elsewhere.org/a?b=c"
    first, second = addresses_of(entry(urls=("https://huggingface.co" + PATH, other)))
    assert (first.url, first.shown, first.authorization) == (url, shown, header)
    assert (second.url, second.shown, second.authorization) == (other, other, None)


def test_without_a_mirror_addresses_stay_whole():
    assert [(one.url, one.shown) for one in addresses_of(entry())] == [("https://huggingface.co" + PATH,) * 2]


@pytest.mark.parametrize(
    "mirror",
    [
        "secret",
        "file:///secret",
        "https://",
        "https://me:se@cret@m.org",
        "http://[::1",
        "https://m.org/x?secret",
        "https://m.org/#secret",
        "https://m.org/sec ret",
        "https://m.org/sec\x7fret",
        "https://m.org/s\u00e9cret",
        "https://m\x1bsecret",
        "https://m\u2100secret",
        "https://m:70000/secret",
    ],
)
def test_a_mirror_that_is_no_address_is_not_shown(monkeypatch, mirror):
    monkeypatch.setenv("HF_ENDPOINT", mirror)
    with pytest.raises(DownloadError, match=r"HF_ENDPOINT must be an address such as https://huggingface.co") as caught:
        addresses_of(entry())
    assert "cret" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_password_is_not_sent_unencrypted(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://me:secret@mirror.org")
    with pytest.raises(DownloadError, match=r"http://mirror.org would be sent it unencrypted; use https") as caught:
        addresses_of(entry())
    assert "secret" not in str(caught.value)


def test_what_is_shown_of_a_private_address():
    assert origin_of("https://me:secret@a.org:8/token?key=x#y") == "https://a.org:8"
    assert origin_of("http://a\x1b.org/") == "http://a\\x1b.org"
