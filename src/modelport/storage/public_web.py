"""Reads one file over https (http only for who says so) from the public internet, and from nowhere else.

A caller of the server names the address, so nothing about it is trusted: every name is resolved here, every address
that it has is checked, the connection goes to an address that was checked (a name cannot change its mind in between),
and each redirect is treated as a new address; none leads from https back to http. Knows no format and no store.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

import certifi
import httpcore

from modelport.errors import DeadlineExceeded, InvalidInput, NotAllowed, NotFound, TooLarge, Unavailable

_MOST_REDIRECTS = 5
_CONNECT_S, _STALL_S = 10.0, 60.0
_REDIRECTS = (301, 302, 303, 307, 308)
_LONGEST = 2_000
#: IPv6 networks that carry an IPv4 address in their last 32 bits.
_CARRIERS = tuple(ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "::ffff:0:0/96", "::/96"))
#: Tunnels and networks that are routed, but lead to somewhere else than they say.
_TUNNELS = tuple(ipaddress.IPv6Network(text) for text in ("2002::/16", "2001::/32", "64:ff9b:1::/48", "fec0::/10"))
_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not loopback, private, link-local, metadata, multicast."""
    found: _IPAddress = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if any(found in network for network in _CARRIERS):
            found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        elif any(found in network for network in _TUNNELS):
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


class _CheckedNetwork(httpcore.SyncBackend):
    """Opens connections to checked addresses only."""

    def __init__(self, allow_private: bool, settings: str) -> None:
        self._allow_private, self._settings = allow_private, settings

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Unavailable(f"the name {host[:200]!r} cannot be resolved; check the address") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise NotAllowed(
                f"{host[:200]!r} is not an address of the public internet; send the file itself, "
                f"or let the operator set {self._settings}_ALLOW_PRIVATE=true"
            )
        for address in addresses[:-1]:
            try:
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return super().connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    def connect_unix_socket(self, *_: object, **__: object) -> httpcore.NetworkStream:
        raise NotAllowed("only addresses of the web are read")


def check_url(url: str, plain: bool = False) -> str:
    """The URL, if it is one that may be tried: ``plain`` http too. Raises InvalidInput."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput(f"source {url[:200]!r} is not a URL, such as https://host/model.onnx") from None
    if parts.scheme not in (("https", "http") if plain else ("https",)):
        read = "https and http are" if plain else "https is"
        raise InvalidInput(
            f"source {url[:200]!r}: only {read} read, not {parts.scheme[:20] or 'nothing'}; give https://host/file"
        )
    if not parts.hostname or len(url) > _LONGEST or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidInput(f"source {url[:200]!r} is not like https://host/model.onnx (percent-encode what is special)")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(
            "a source holds no user name or password; they would be written into records: leave them out"
        )
    if port == 0:
        raise InvalidInput(f"source {url[:200]!r}: 0 is no port; leave it out")
    return url


def file_name(url: str) -> str:
    """The last part of the URL's path, as a plain file name; ``model`` when there is none."""
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    return name if name and name.isprintable() and not set(name) & set("\\/") and name not in (".", "..") else "model"


@contextmanager
def opened(
    url: str,
    *,
    max_bytes: int,
    timeout_s: float,
    allow_private: bool = False,
    plain: bool = False,
    settings: str = "MODELPORT_IMPORTS",
) -> Iterator[Iterator[bytes]]:
    """The body behind an https URL, in pieces; behind an http one where ``plain`` allows it. ``settings`` is how the
    variables begin that its messages name.

    Raises InvalidInput, NotAllowed, NotFound, TooLarge beyond ``max_bytes``, DeadlineExceeded after ``timeout_s``
    in all, Unavailable when the host does not answer as it should.
    """
    ends = time.monotonic() + timeout_s
    pool = httpcore.ConnectionPool(
        ssl_context=_trusting(),
        network_backend=_CheckedNetwork(allow_private, settings),
        max_connections=1,
    )
    with pool:
        for _ in range(_MOST_REDIRECTS + 1):
            check_url(url, plain)
            with _told(url), pool.stream("GET", url, headers=_headers(url), extensions=_limits()) as answer:
                if answer.status not in _REDIRECTS:
                    yield _body(url, answer, _Limit(max_bytes, f"{settings}_MAX_GB"), ends)
                    return
                url = _redirected(url, _header(answer, b"location"))
        raise Unavailable(f"more than {_MOST_REDIRECTS} redirects; give the address of the file itself")


def _redirected(url: str, location: str) -> str:
    """Where an answer sends us; raises InvalidInput for a way from https back to what anybody can read and change."""
    to = urljoin(url, location)
    if urlsplit(url).scheme == "https" and urlsplit(to).scheme == "http":
        raise InvalidInput(
            f"source: {(urlsplit(url).hostname or '')[:200]} redirects from https to http, which can be changed on the "
            "way; give an address that stays with https"
        )
    return to


def _headers(url: str) -> dict[bytes | str, bytes | str]:
    return {"host": urlsplit(url).netloc, "accept": "*/*", "accept-encoding": "identity", "user-agent": "modelport"}


def _limits() -> dict[str, object]:
    return {"timeout": {"connect": _CONNECT_S, "read": _STALL_S, "write": _STALL_S, "pool": _CONNECT_S}}


class _Limit(NamedTuple):
    bytes: int
    variable: str

    def exceeded(self, what: str) -> TooLarge:
        return TooLarge(f"source: {what} over the limit of {self.bytes} bytes ({self.variable})")


def _trusting() -> ssl.SSLContext:
    """Whom to believe who a server is: SSL_CERT_FILE or SSL_CERT_DIR where one is set, else Mozilla's list."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    return ssl.create_default_context(cafile=file or (None if folder else certifi.where()), capath=folder or None)


def _body(url: str, answer: httpcore.Response, limit: _Limit, ends: float) -> Iterator[bytes]:
    host = urlsplit(url).hostname
    if answer.status in (404, 410):
        raise NotFound(f"source: {host} has nothing there (HTTP status {answer.status}); check the address")
    if answer.status != 200:
        raise Unavailable(f"source: {host} answered with HTTP status {answer.status}; a file has to be readable by all")
    if _header(answer, b"content-encoding") not in ("", "identity"):
        raise Unavailable(
            f"source: {host} sends the file compressed although it was asked not to; push the file itself"
        )
    size = _header(answer, b"content-length")
    if size.isdecimal() and len(size) < 19 and int(size) > limit.bytes:
        raise limit.exceeded(f"the file of {size} bytes is")
    return _pieces(url, answer, limit, ends)


def _pieces(url: str, answer: httpcore.Response, limit: _Limit, ends: float) -> Iterator[bytes]:
    done = 0
    with _told(url):
        for chunk in answer.iter_stream():
            done += len(chunk)
            if done > limit.bytes:
                raise limit.exceeded("the file is")
            if time.monotonic() > ends:
                raise DeadlineExceeded("source: the file did not arrive in time; push it from a machine that has it")
            yield chunk


def _header(answer: httpcore.Response, wanted: bytes) -> str:
    return next((value.decode("latin-1").strip() for name, value in answer.headers if name.lower() == wanted), "")


@contextmanager
def _told(url: str) -> Iterator[None]:
    """What goes wrong on the way, as an error that names the host."""
    host = (urlsplit(url).hostname or "")[:200]
    try:
        yield
    except httpcore.TimeoutException:
        raise Unavailable(f"source: {host} does not answer; try again, or push the file itself") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        cause = str(error)[:200] or type(error).__name__
        raise Unavailable(f"source: the connection to {host} failed ({cause}); check the address") from None
