"""Where a download may lead: redirects, proxies, TLS, and whose word about a file counts."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess

import pytest

from jvan.checkpoints.published import bounded as _bounded
from jvan.checkpoints.published import http as _http
from jvan.checkpoints.published.addresses import Address
from jvan.checkpoints.published.weights_cache import obtain

from .download_help import CONTENT, OTHER, PATH, SHA256, entry, fails, quick_and_clean
from .file_server import Served, serve

UNKNOWN = {"size": None, "sha256": None}
HUB_SAYS = {"X-Linked-Etag": f'"{SHA256}"', "X-Linked-Size": str(len(CONTENT))}


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    quick_and_clean(monkeypatch, tmp_path / "cache")


@pytest.mark.parametrize(
    ("redirect", "message"),
    [
        (PATH, "more than 10 redirects"),
        ("file:///etc/passwd", "refused: it redirects from http://127.0.0.1:[0-9]+ to file://"),
        ("ftp://127.0.0.1/x", "refused: it redirects .* to ftp://127.0.0.1"),
        ("data:,abc", "refused: it redirects"),
        ("http://192.0.2.1/x", "refused: it redirects .* to http://192.0.2.1"),
        ("http://[::1/x", "redirects to what is no address"),
        ("http://127.0.0.1:x/", "redirects to what is no address"),
        ("http://127.0.0.1:70000/", "redirects to what is no address"),
        ("http://me:secret@127.0.0.1:1/", "redirects to what is no address"),
        ("http://127.0.0.1:1/a b", "redirects to what is no address"),
        ("http://127.0.0.1:1/\u00fc", "redirects to what is no address"),
    ],
)
def test_redirects_that_are_not_followed(start, redirect, message):
    served = start(redirect=redirect)
    assert "secret" not in fails(message)
    assert len(served.requests) in (1, 11)


@pytest.mark.parametrize(
    ("here", "location", "follows"),
    [
        ("https://a.org/x", "/y", "https://a.org/y"),
        ("https://a.org/x", "https://b.org/y", "https://b.org/y"),
        ("http://a.org/x", "https://b.org/y", "https://b.org/y"),
        ("http://a.org/x", "/y", "http://a.org/y"),
        ("http://localhost:7/x", "http://127.0.0.1:8/y", "http://127.0.0.1:8/y"),
        ("http://127.0.0.1:7/x", "https://127.0.0.1:8/y", "https://127.0.0.1:8/y"),
        ("https://a.org/x", "http://a.org/y", None),
        ("http://a.org/x", "http://b.org/y", None),
        ("https://a.org/x", "file:///y", None),
    ],
)
def test_no_redirect_leaves_https(here, location, follows):
    from_here = _http.is_local(here.split("/")[2].partition(":")[0])
    if follows:
        assert _http._next_hop(here, location, from_here) == follows
    else:
        with pytest.raises(_http.Unusable, match="refused"):
            _http._next_hop(here, location, from_here)


LOOPBACK = [
    "127.0.0.1",
    "127.9.9.9",
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "0.0.0.0",
]
LOOPBACK += ["[::]", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "%31%32%37.0.0.1"]


@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.parametrize("here", ["http://a.org/x", "https://a.org/x"])
def test_nobody_elsewhere_sends_us_to_this_machine(here, host):
    for scheme in ("http", "https"):
        with pytest.raises(_http.Unusable, match="refused: it redirects"):
            _http._next_hop(here, f"{scheme}://{host}:8/y", from_here=False)


def test_a_mirror_elsewhere_cannot_have_a_service_of_this_machine_asked(start, monkeypatch):
    """The mirror is played through a proxy, so that it lies elsewhere."""
    with serve(Served(CONTENT)) as inside:
        served = start(redirect=inside + "/delete?all")
        proxy, victim = os.environ["HF_ENDPOINT"], Served(CONTENT)
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("HF_ENDPOINT", "http://mirror.invalid")
        with serve(victim) as inside:
            served.redirect = inside + "/delete?all"
            fails("refused: it redirects from http://mirror.invalid to http://127.0.0.1")
    assert len(served.requests) == 1
    assert not victim.requests


@pytest.fixture
def resolves_here(monkeypatch):
    """A name of the domain invalid means this machine."""
    known = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest: known("127.0.0.1" if host.endswith(".invalid") else host, *rest)
    )


def test_nor_by_a_name_that_means_this_machine(start, monkeypatch, resolves_here):
    with socket.create_server(("127.0.0.1", 0)) as inside:
        inside.settimeout(0)
        start(redirect=f"https://inside.invalid:{inside.getsockname()[1]}/x")
        monkeypatch.setenv("http_proxy", os.environ["HF_ENDPOINT"])
        monkeypatch.setenv("HF_ENDPOINT", "http://mirror.invalid")
        fails("refused: it redirects to inside.invalid, which is this machine")
        with pytest.raises(BlockingIOError):
            inside.accept()


def test_a_mirror_whose_name_means_this_machine_may_go_on_to_it(start, monkeypatch, resolves_here):
    with serve(Served(CONTENT)) as store:
        start(redirect=store + "/x")
        monkeypatch.setenv("HF_ENDPOINT", os.environ["HF_ENDPOINT"].replace("127.0.0.1", "mirror.invalid"))
        assert obtain(entry()).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0.0.0.0", "::ffff:127.0.0.1", "::1"]
)
def test_a_guarded_connection_reaches_no_spelling_of_this_machine(host):
    with socket.create_server(("127.0.0.1", 0)) as inside:
        inside.settimeout(0)
        bounds = _bounded.Bounds()
        bounds.guarded = True
        with pytest.raises((_http.Unusable, socket.gaierror)):
            bounds.connect((host, inside.getsockname()[1]))
        with pytest.raises(BlockingIOError):
            inside.accept()


def test_all_addresses_of_a_name_are_tried(monkeypatch):
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0)) as server:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: it refuses
        places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", one.getsockname()) for one in (closed, server)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: places)
        _bounded.Bounds().connect(("mirror.invalid", 1)).close()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: places[:1])
        with pytest.raises(ConnectionRefusedError):
            _bounded.Bounds().connect(("mirror.invalid", 1))


def test_a_mirror_does_not_vouch_for_itself(start, capsys):
    """Neither its hash nor its size: the file is kept and called unverified, at later starts as well."""
    false = {"X-Linked-Etag": '"' + "0" * 64 + '"', "X-Linked-Size": "7"}
    served = start(OTHER, redirect="/store", redirect_headers=false)
    for _ in range(2):
        assert obtain(entry(**UNKNOWN)).read_bytes() == OTHER
        assert "van_b0.test is unverified" in capsys.readouterr().err
    assert len(served.requests) == 2


def test_nor_does_whom_the_hub_redirects_to(start, monkeypatch, capsys):
    """Nor the hub, where a mirror has chosen the address."""
    with serve(Served(OTHER, headers=HUB_SAYS)) as second:
        start(redirect=second + "/hub")
        monkeypatch.setattr(_http, "is_hub", lambda url: url.startswith(second))
        assert obtain(entry(**UNKNOWN)).read_bytes() == OTHER
    assert "van_b0.test is unverified" in capsys.readouterr().err


def test_http_proxy_is_honoured(start, monkeypatch):
    served = start()
    monkeypatch.setenv("http_proxy", os.environ["HF_ENDPOINT"])
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.invalid")
    assert obtain(entry()).read_bytes() == CONTENT
    assert served.requests[0][0] == "http://mirror.invalid" + PATH


def test_a_proxy_on_this_machine_is_no_way_to_this_machine(start, monkeypatch):
    served = start(redirect="/store")
    monkeypatch.setenv("http_proxy", os.environ["HF_ENDPOINT"])
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.invalid")
    served.then = [{"redirect": None}]
    assert obtain(entry()).read_bytes() == CONTENT
    assert [address for address, _ in served.requests] == [f"http://mirror.invalid{path}" for path in (PATH, "/store")]


def test_no_proxy_is_honoured(start, monkeypatch):
    start()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert obtain(entry()).read_bytes() == CONTENT


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_of_another_kind_is_refused_in_one_line(monkeypatch, scheme):
    monkeypatch.setenv("HF_ENDPOINT", scheme + "://mirror.invalid")
    monkeypatch.setenv(scheme + "_proxy", "socks5://127.0.0.1:1")
    fails(f"the environment's {scheme}_proxy is a socks5 proxy, which is not supported; name an http one")


@pytest.mark.parametrize("proxy", ["http://me:secret@:x", "http:me:secret@127.0.0.1", "http://me:se/cret@127.0.0.1:1"])
def test_a_malformed_proxy_is_not_repeated(monkeypatch, proxy):
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.invalid")
    monkeypatch.setenv("http_proxy", proxy)
    assert "cret" not in fails("cannot download")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1 and the hub, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl command to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=loopback -addext subjectAltName=IP:127.0.0.1,DNS:huggingface.co"
    subprocess.run(["openssl", *command.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    return key, cert


@pytest.fixture
def tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1], certificate[0])
    return context


def test_tls_is_verified_though_jittor_switches_that_off(tls, monkeypatch):
    monkeypatch.setattr(ssl, "_create_default_https_context", ssl._create_unverified_context)
    served = Served(CONTENT)
    with serve(served, tls) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        fails("CERTIFICATE_VERIFY_FAILED")
    assert not served.requests


def test_tls_with_a_trusted_certificate_and_no_way_down_to_http(tls, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    plain, served = Served(CONTENT), Served(CONTENT)
    with serve(plain) as low, serve(served, tls) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        served.redirect = low + "/x"
        fails("refused: it redirects from https://127.0.0.1")
        assert not plain.requests
        served.redirect = None
        assert obtain(entry()).read_bytes() == CONTENT


def test_the_hub_itself_is_believed_over_tls_and_what_it_redirects_to_is_not(tls, certificate, monkeypatch, capsys):
    """Through a proxy whose tunnel ends at a server with a certificate for the hub's name."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    served = Served(OTHER, tunnel=tls, headers=HUB_SAYS)
    with serve(served) as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        fails(f"the hub says {SHA256}", of=entry(sha256=None, size=None))
        served.content = CONTENT
        assert obtain(entry(**UNKNOWN)).read_bytes() == CONTENT
    assert "unverified" not in capsys.readouterr().err
    assert served.requests[-2][0] == "huggingface.co:443"


@pytest.mark.parametrize(("target", "sent"), [("/store", True), ("other", False)])
def test_a_mirrors_password_goes_to_it_alone(start, monkeypatch, target, sent):
    with serve(other := Served(CONTENT)) as elsewhere:
        served = start(redirect=elsewhere if target == "other" else target)
        monkeypatch.setenv("HF_ENDPOINT", os.environ["HF_ENDPOINT"].replace("//", "//me:a%3Ab@"))
        assert obtain(entry()).read_bytes() == CONTENT
    asked = [headers.get("Authorization") for _, headers in served.requests + other.requests]
    assert asked == ["Basic bWU6YTpi", "Basic bWU6YTpi" if sent else None]


def test_credentials_stay_with_scheme_host_and_port():
    address = Address("https://a.org:8/x", "", "Basic secret")
    for same in ("https://a.org:8/y", "https://A.ORG:8/"):
        assert address.credentials_for(same)
    for other in (
        "http://a.org:8/x",
        "https://a.org/x",
        "https://a.org:80/x",
        "https://b.org:8/x",
        "https://a.org.b.org:8",
    ):
        assert not address.credentials_for(other)
