"""A small https (or http) server of the tests' own, with a certificate of its own, and a folder's files behind it."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Web:
    """``pages`` by path; a function is called for each request."""

    port: int
    certificate: Path
    scheme: str = "https"
    pages: dict[str, bytes | Answer | Callable[[], Answer]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def url(self, path: str, host: str = "localhost") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"


def _own_certificate(file: Path) -> ssl.SSLContext:
    key = file.with_name("key.pem")
    names = "subjectAltName=DNS:localhost,DNS:models.test,IP:127.0.0.1,IP:127.0.0.2"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", file, "-subj", "/CN=localhost", "-addext", names],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return context


@contextmanager
def serving(folder: Path, plain: bool = False) -> Iterator[Web]:
    """Listens on every loopback address; ``plain`` without TLS."""
    certificate = folder / "cert.pem"
    context = None if plain else _own_certificate(certificate)
    web = Web(0, certificate, "http" if plain else "https")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            web.asked.append(self.path)
            page = web.pages.get(self.path.partition("?")[0], (404, {}, b"nothing"))
            page = page() if callable(page) else page
            status, headers, body = page if isinstance(page, tuple) else (200, {}, page)
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # a client that hangs up is what some tests want

    listening = Server(("0.0.0.0", 0), Handler)
    if context is not None:
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
    web.port = listening.server_port
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
