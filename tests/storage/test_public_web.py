"""The guard before the web: what may be reached, over real TLS connections to a server of the test's own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelport.errors import InvalidInput, ModelportError, NotAllowed, NotFound, TooLarge, Unavailable
from modelport.storage import public_web
from modelport.storage.public_web import check_url, file_name, is_public, opened
from tests.web import Web, serving


@pytest.fixture
def plain_web(tmp_path: Path) -> Iterator[Web]:
    with serving(tmp_path, plain=True) as found:
        yield found


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    with serving(tmp_path) as found:
        monkeypatch.setenv("SSL_CERT_FILE", str(found.certificate))
        yield found


def read(
    url: str, max_bytes: int = 1 << 20, timeout_s: float = 20, allow_private: bool = True, plain: bool = False
) -> bytes:
    limits = {"max_bytes": max_bytes, "timeout_s": timeout_s}
    with opened(url, **limits, allow_private=allow_private, plain=plain) as chunks:
        return b"".join(chunks)


PUBLIC = "8.8.8.8 1.1.1.1 2606:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808"
PRIVATE = """
    127.0.0.1 127.9.9.9 0.0.0.0 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 192.0.2.1 198.18.0.1
    224.0.0.1 240.0.0.1 255.255.255.255 ::1 :: fe80::1 fe80::1%eth0 fc00::1 fd00:ec2::254 fec0::1 ff02::1 2001:db8::1
    ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:7f00:1::
    2001:0:1::1
"""


@pytest.mark.parametrize(
    ("address", "public"),
    [*((found, True) for found in PUBLIC.split()), *((found, False) for found in PRIVATE.split())],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    "url",
    ["http://a/m", "ftp://a/m", "https://", "https:///m", "https://u:p@a/m", "https://u@a/m", "https://a:0/m",
     "https://a b/m", "https://a/\n", "https://é.com/m", "https://a:99999/m", "https://[::1/m",
     "https://a/" + "x" * 2000],
)  # fmt: skip
def test_urls_that_are_not_tried(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_url(url)


def test_names_of_files() -> None:
    urls = (
        "https://h/a/m.onnx?sig=1",
        "https://h/",
        "https://h",
        "https://h/%2e%2e",
        "https://h/a%2fb",
        "https://h/%00",
    )
    assert [file_name(url) for url in urls] == ["m.onnx", "model", "model", "model", "b", "model"]


def test_a_file(web: Web) -> None:
    web.pages["/m.onnx"] = b"x" * 300_000
    assert read(web.url("/m.onnx?signature=1")) == b"x" * 300_000
    assert web.asked == ["/m.onnx?signature=1"]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ],
)
def test_this_machine_is_never_reached(web: Web, host: str) -> None:
    with pytest.raises(NotAllowed, match="not an address of the public internet"):
        read(web.url("/m", host), allow_private=False)
    assert web.asked == []


def test_one_private_address_among_public_ones_is_enough(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, web.port)) for host in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    with pytest.raises(NotAllowed):
        read(web.url("/m", "models.test"), allow_private=False)


def test_the_connection_goes_to_the_address_that_was_checked(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is looked up, and private a moment later, is looked up once."""
    web.pages["/m"] = b"right"
    answers = iter(["127.0.0.1"])  # a second question would fail

    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *a, **k: resolve(host, *a, **k) if host == "models.test" else real(host, *a, **k),
    )
    monkeypatch.setattr(public_web, "is_public", lambda address: address == "127.0.0.1")
    assert read(web.url("/m", "models.test"), allow_private=False) == b"right"


def test_every_redirect_is_a_new_address(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_web, "is_public", lambda address: address == "127.0.0.1")
    web.pages |= {"/far": (302, {"location": web.url("/m", "127.0.0.2")}, b""), "/m": b"secret"}
    web.pages |= {"/near": (307, {"location": "/m"}, b"")}
    assert read(web.url("/near", "127.0.0.1"), allow_private=False) == b"secret"
    web.asked.clear()
    with pytest.raises(NotAllowed):
        read(web.url("/far", "127.0.0.1"), allow_private=False)
    assert web.asked == ["/far"]


@pytest.mark.parametrize(
    "location", ["http://localhost/m", "file:///etc/passwd", "ftp://h/m", "https://u:p@localhost/m"]
)
def test_redirects_to_what_is_not_read(web: Web, location: str) -> None:
    web.pages["/r"] = (302, {"location": location}, b"")
    with pytest.raises(InvalidInput):
        read(web.url("/r"))


def test_plain_http_is_read_for_who_says_so(plain_web: Web) -> None:
    plain_web.pages["/m"] = b"x" * 300_000
    assert read(plain_web.url("/m"), plain=True) == b"x" * 300_000
    plain_web.asked.clear()
    with pytest.raises(InvalidInput, match="only https is read"):
        read(plain_web.url("/m"))
    for host in ("localhost", "127.1", "2130706433", "[::ffff:127.0.0.1]"):
        with pytest.raises(NotAllowed, match="MODELPORT_IMPORTS_ALLOW_PRIVATE"):
            read(plain_web.url("/m", host), plain=True, allow_private=False)
    assert plain_web.asked == []


def test_a_redirect_leads_up_to_https_but_never_down(web: Web, plain_web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_web, "is_public", lambda address: address == "127.0.0.1")
    web.pages |= {"/m": b"secure", "/down": (302, {"location": plain_web.url("/m", "127.0.0.1")}, b"")}
    web.pages["/there"] = (302, {"location": "/m"}, b"")
    plain_web.pages |= {"/up": (301, {"location": web.url("/there", "127.0.0.1")}, b""), "/m": b"changed"}
    plain_web.pages["/around"] = (302, {"location": web.url("/down", "127.0.0.1")}, b"")
    plain_web.pages["/far"] = (302, {"location": plain_web.url("/m", "127.0.0.2")}, b"")
    assert read(plain_web.url("/up", "127.0.0.1"), plain=True, allow_private=False) == b"secure"
    plain_web.asked.clear()
    for url in (web.url("/down", "127.0.0.1"), plain_web.url("/around", "127.0.0.1")):
        with pytest.raises(InvalidInput, match="redirects from https to http"):
            read(url, plain=True, allow_private=False)
    with pytest.raises(NotAllowed):
        read(plain_web.url("/far", "127.0.0.1"), plain=True, allow_private=False)
    assert plain_web.asked == ["/around", "/far"], "what a redirect may not lead to is never asked"


def test_redirects_without_end(web: Web) -> None:
    web.pages["/r"] = (302, {"location": "/r"}, b"")
    with pytest.raises(Unavailable, match="redirects"):
        read(web.url("/r"))
    assert len(web.asked) == 6


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        ((404, {}, b""), NotFound, "has nothing there"),
        ((403, {}, b""), Unavailable, "HTTP status 403"),
        ((500, {}, b""), Unavailable, "HTTP status 500"),
        ((200, {"content-encoding": "gzip"}, b"x"), Unavailable, "compressed"),
        ((200, {}, b"x" * 2000), TooLarge, "2000 bytes"),
        ((200, {"content-length": "100"}, b"x"), ModelportError, "localhost"),
    ],
)  # fmt: skip
def test_answers_that_are_no_file(web: Web, answer: Any, kind: type[ModelportError], text: str) -> None:
    web.pages["/m"] = answer if "content-length" not in answer[1] else (200, {**answer[1], "connection": "close"}, b"x")
    with pytest.raises(kind, match=text):
        read(web.url("/m"), max_bytes=1000, timeout_s=3)


def test_a_body_that_is_longer_than_the_limit(web: Web) -> None:
    web.pages["/m"] = (200, {"content-length": "x", "connection": "close"}, b"x" * 2000)
    with pytest.raises(ModelportError):
        read(web.url("/m"), max_bytes=1000)


def test_a_certificate_that_nobody_vouches_for(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(Unavailable, match="connection to localhost failed"):
        read(web.url("/m"))


def test_names_that_do_not_exist() -> None:
    with pytest.raises(Unavailable, match="cannot be resolved"):
        read("https://no-such-host.invalid/m")
