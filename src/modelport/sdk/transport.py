"""What both ways to a server share: its address, what every request carries, which certificates are accepted, and
what a failure to get an answer is called.

``blocking`` and ``awaiting`` hold the sockets. This knows no socket and no operation.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import certifi

from modelport import __version__
from modelport.errors import DeadlineExceeded, InvalidInput
from modelport.sdk.endpoint import Target
from modelport.sdk.flows import Request, Unreachable

CONNECT_TIMEOUT_S = 5.0
#: Idle connections that are kept for the next requests.
KEPT = 256
CHUNK = 1 << 18
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class Address:
    """One server, as both transports reach it."""

    url: str
    """``http://host:port/prefix``, without a slash at its end."""
    headers: dict[str, str] = field(repr=False)
    """Of every request; the key is among them."""
    tls: ssl.SSLContext | None = None
    check_name: bool = True
    """Whether the certificate has to bear the host's name."""
    by_proxy: bool = False
    """Whether the environment's proxies are used: never for this machine."""

    @classmethod
    def of(cls, target: Target, verify: bool | str) -> Address:
        """Raises InvalidInput for a URL that is none, or certificates that are not there."""
        parts = urlsplit(target.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidInput(f"server URL {target.url[:200]!r} is not like http://127.0.0.1:8000")
        headers = {"accept": "*/*", "accept-encoding": "identity", "user-agent": f"modelport/{__version__}"}
        if target.key:
            if not target.key.isascii() or not target.key.isprintable():
                raise InvalidInput("the key holds what no key holds; copy it again, or make one: modelport keys create")
            headers["authorization"] = f"Bearer {target.key}"
        pinned = target.certificate if verify is True else None
        # Certificates take 20 ms to load: only where they are needed.
        tls = _context(verify, pinned) if parts.scheme == "https" else None
        return cls(target.url.rstrip("/"), headers, tls, pinned is None, parts.hostname not in _LOOPBACK)

    def unreachable(self, error: BaseException) -> Unreachable:
        """Nobody listens there: the request never left."""
        step = "start one with `modelport up --detach`, or name another with --url or MODELPORT_URL"
        if isinstance(_origin(error), ssl.SSLCertVerificationError):
            step = "name the authority of a private certificate with SSL_CERT_FILE=ca.pem, or Client(verify='ca.pem')"
        return Unreachable(f"no server answers at {self.url} ({_cause(error)}); {step}", sent=False)

    def broken(self, error: BaseException) -> Unreachable:
        """The request had left, and may have been run."""
        step = "see `modelport status`, then try again"
        return Unreachable(f"the connection to {self.url} broke ({_cause(error)}); {step}", sent=True)


def path_and_query(request: Request) -> str:
    """What stands behind the server's URL."""
    return f"{request.path}?{urlencode(request.params)}" if request.params else request.path


def late(request: Request, seconds: float) -> DeadlineExceeded:
    """No answer within the client's own limit."""
    return DeadlineExceeded(
        f"{request.method} {request.path}: no answer within {seconds:g} s; give it a longer timeout, "
        "or see what it waits for: modelport status"
    )


class Lines:
    """Puts the pieces of a streamed answer together to lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[str]:
        """The lines that the chunk completes."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        return [line.decode(errors="replace").removesuffix("\r") for line in whole]

    def end(self) -> list[str]:
        """What stands behind the last line's end."""
        return self.feed(b"\n") if self._rest else []


def _context(verify: bool | str, pinned: str | None) -> ssl.SSLContext:
    """What certificates to accept: those of a CA file, the one that is pinned, or what the system and Mozilla trust."""
    file = pinned or (verify if isinstance(verify, str) else None)
    if file is not None and not Path(file).is_file():
        raise InvalidInput(f"verify: {file!r} is no file; it has to be a PEM file with the certificates to accept")
    context = ssl.create_default_context(cafile=file)
    if verify is False or pinned is not None:
        context.check_hostname = False
    if verify is False:
        context.verify_mode = ssl.CERT_NONE
    if pinned is not None:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if file is None and not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & os.environ.keys():
        context.load_verify_locations(certifi.where())  # not every Python brings the system's
    return context


def _origin(error: BaseException) -> BaseException:
    """The system's own error beneath those of a library."""
    for inner in (error.__cause__, *error.args, getattr(error, "os_error", None)):
        if isinstance(inner, OSError) and inner is not error:
            return _origin(inner)
    return error


def _cause(error: BaseException) -> str:
    origin = _origin(error)
    if isinstance(origin, ssl.SSLCertVerificationError):
        return origin.verify_message
    if isinstance(origin, OSError) and origin.errno is not None and origin.errno > 0:
        return os.strerror(origin.errno)
    if isinstance(origin, OSError) and origin.strerror:
        return origin.strerror
    return str(origin)[:200] or type(origin).__name__
