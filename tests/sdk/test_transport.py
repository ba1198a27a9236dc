"""Both clients over real sockets: what is sent, what is kept open, and what every kind of silence is called."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport import AsyncClient, Client, errors
from modelport.sdk.files import FileSource, Meter, ignore_progress
from modelport.sdk.flows import Request, Unreachable, send
from modelport.sdk.transport import Lines

STATUS = {
    "version": "1", "pid": 1, "uptime_s": 1, "http": "h", "grpc": None, "keys_required": False, "gateways": [],
    "deployments": [],
}  # fmt: skip


def answer(body: bytes, head: str = "HTTP/1.1 200 OK") -> bytes:
    return f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


OK = answer(json.dumps(STATUS).encode())


class RawServer:
    """Answers each request on each connection as ``reply`` says; None hangs up. Remembers both."""

    def __init__(self, reply: Callable[[int], bytes | None] = lambda count: OK, close_after: bool = False) -> None:
        self._reply, self._close_after = reply, close_after
        self.connections = 0
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                headers = {}
                while (header := stream.readline().strip()) != b"":
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = stream.read(int(headers.get("content-length", 0)))
                self.requests.append((line.decode().strip(), headers, body))
                said = self._reply(len(self.requests))
                if said is None:
                    return
                connection.sendall(said)
                if self._close_after:
                    return

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def raw() -> Iterator[Callable[..., RawServer]]:
    made: list[RawServer] = []

    def start(*arguments: Any, **named: Any) -> RawServer:
        made.append(RawServer(*arguments, **named))
        return made[-1]

    yield start
    for server in made:
        server.close()


class Both:
    """One of the two clients, called alike: ``both(url, lambda client: client.status())``."""

    def __init__(self, is_async: bool) -> None:
        self.is_async = is_async

    def __call__(self, url: str, call: Callable[[Any], Any], times: int = 1, **options: Any) -> Any:
        if not self.is_async:
            with Client(url, **options) as client:
                return [call(client) for _ in range(times)][-1]

        async def run() -> Any:
            async with AsyncClient(url, **options) as client:
                return [await call(client) for _ in range(times)][-1]

        return asyncio.run(run())

    def lines(self, url: str) -> list[str]:
        if not self.is_async:
            with Client(url) as client:
                return list(client.deployments.logs("m", follow=True))

        async def run() -> list[str]:
            async with AsyncClient(url) as client:
                return [line async for line in client.deployments.logs("m", follow=True)]

        return asyncio.run(run())


@pytest.fixture(params=[False, True], ids=["blocking", "awaiting"])
def both(request: pytest.FixtureRequest) -> Both:
    return Both(request.param)


def status(client: Any) -> Any:
    return client.status()


def test_requests_share_a_connection(both: Both, raw: Callable[..., RawServer]) -> None:
    server = raw()
    assert both(f"{server.url}/behind/a/proxy/", status, times=5, key="mp_k").version == "1"
    assert server.connections == 1 and len(server.requests) == 5
    line, headers, _ = server.requests[0]
    assert line == "GET /behind/a/proxy/api/v1/status HTTP/1.1"
    assert headers["authorization"] == "Bearer mp_k" and headers["user-agent"].startswith("modelport/")


def test_nobody_listens(both: Both) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(Unreachable) as caught:
        both(url, status)
    assert not caught.value.sent
    assert caught.value.message == (
        f"no server answers at {url} (Connection refused); start one with `modelport up --detach`, "
        "or name another with --url or MODELPORT_URL"
    )


def test_a_name_that_nobody_has(both: Both) -> None:
    with pytest.raises(Unreachable, match=r"no server answers at http://no-such-host\.invalid:1 \(.+\); start"):
        both("http://no-such-host.invalid:1", status)


def test_silence_is_a_deadline(both: Both, raw: Callable[..., RawServer]) -> None:
    server = raw(lambda count: b"")
    with pytest.raises(errors.DeadlineExceeded, match=r"GET /api/v1/status: no answer within 0\.2 s; give it"):
        both(server.url, status, timeout=0.2)
    stuck = raw(lambda count: b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
    with pytest.raises(errors.DeadlineExceeded):
        both(stuck.url, status, timeout=0.2)


def test_who_hangs_up_is_asked_again_only_where_twice_is_once(both: Both, raw: Callable[..., RawServer]) -> None:
    server = raw(lambda count: None if count == 1 else OK)
    assert both(server.url, status).pid == 1
    gone = raw(lambda count: None)
    with pytest.raises(Unreachable, match="broke .*see `modelport status`") as caught:
        both(gone.url, lambda client: client.keys.create("app"))
    assert caught.value.sent and len(gone.requests) == 1


def test_an_answer_that_is_cut_is_asked_for_again(both: Both, raw: Callable[..., RawServer]) -> None:
    server = raw(lambda count: OK[:-5] if count < 3 else OK, close_after=True)
    assert both(server.url, status).version == "1"
    assert len(server.requests) == 3


def test_what_is_not_read_does_not_reach_the_next(both: Both, raw: Callable[..., RawServer]) -> None:
    moved = answer(b"elsewhere" * 9, "HTTP/1.1 307 Moved\r\nlocation: http://evil.test/")
    server = raw(lambda count: moved if count == 1 else OK)

    def call(client: Any) -> Any:
        return client.status()

    with pytest.raises(errors.NotAllowed, match="redirects"):
        both(server.url, call)
    assert both(server.url, call).version == "1"


def test_lines_come_whole(both: Both, raw: Callable[..., RawServer]) -> None:
    pieces = [b"one\ntw", "o é"[:3].encode(), b"\xc3\xa9\r\n", b"x" * 200_000 + b"\nlast"]
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    server = raw(lambda count: b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body)
    assert both.lines(server.url) == ["one", "two éé", "x" * 200_000, "last"]
    refused = raw(lambda count: answer(b'{"error": {"code": "not_found", "message": "no m"}}', "HTTP/1.1 404 No"))
    with pytest.raises(errors.NotFound, match="no m"):
        both.lines(refused.url)


def test_lines() -> None:
    lines = Lines()
    assert (lines.feed(b"a"), lines.feed(b"b\n\nc"), lines.end(), lines.end()) == ([], ["ab", ""], ["c"], [])


@pytest.mark.parametrize("size", [0, 3_000_000])
def test_bodies_arrive_whole_and_answers_may_be_written_to(
    both: Both, raw: Callable[..., RawServer], size: int
) -> None:
    head = b'{"outputs":[{"name":"y","datatype":"UINT8","shape":[4],"parameters":{"binary_data_size":4}}]}'
    said = answer(head + b"abcd", f"HTTP/1.1 200 OK\r\ninference-header-content-length: {len(head)}")
    server = raw(lambda count: said)
    found = both(server.url, lambda client: client.infer("m", {"x": np.ones(size, np.uint8)}))
    found["y"][0] = 7
    assert found["y"].tolist() == [7, *b"bcd"]
    assert server.requests[0][2].endswith(b"\x01" * size)


def test_a_file_is_sent_in_pieces_and_an_error_of_reading_it_stays_itself(
    both: Both, raw: Callable[..., RawServer], tmp_path: Path
) -> None:
    server = raw()
    file = tmp_path / "f"
    file.write_bytes(b"z" * 2_500_000)

    def put(size: int) -> Callable[[Any], Any]:
        def call(client: Any) -> Any:
            source = FileSource(file, size, Meter("upload", size, ignore_progress))
            return client._own.run(send(Request("PUT", "/x", body=source)))

        return call

    assert both(server.url, put(2_500_000)).status == 200
    _, headers, body = server.requests[0]
    assert headers["content-length"] == "2500000" and "transfer-encoding" not in headers
    assert body == b"z" * 2_500_000
    with pytest.raises(errors.InvalidInput, match="became shorter"):
        both(server.url, put(9_000_000))


def test_a_proxy_of_the_environment(both: Both, raw: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = raw()
    monkeypatch.setenv("http_proxy", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "other.test")
    assert both("http://models.test:9", status).version == "1"
    line, headers, _ = proxy.requests[0]
    assert line == "GET http://models.test:9/api/v1/status HTTP/1.1"
    assert headers["proxy-authorization"] == "Basic dXNlcjpwQHNz" and headers["host"] == "models.test:9"
    direct = raw()
    assert both(direct.url, status).version == "1"  # this machine is never reached over a proxy
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("key", ["mp_é", "mp_a\nx-evil: 1", "mp_\x00"])
def test_a_key_cannot_be_what_no_header_holds(both: Both, raw: Callable[..., RawServer], key: str) -> None:
    with pytest.raises(errors.InvalidInput, match="the key holds what no key holds"):
        both(raw().url, status, key=key)


def test_certificates(both: Both, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput, match=r"ca\.pem' is no file; it has to be a PEM file"):
        both("https://127.0.0.1:1", status, verify=str(tmp_path / "ca.pem"))
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def speak() -> None:
            for _ in range(3):
                connection, _ = plain.accept()
                connection.recv(10_000)
                connection.sendall(OK)
                connection.close()

        threading.Thread(target=speak, daemon=True).start()
        with pytest.raises(Unreachable, match="no server answers at https"):
            both(f"https://127.0.0.1:{plain.getsockname()[1]}", status)


def test_one_client_in_one_loop_after_another(raw: Callable[..., RawServer]) -> None:
    client = AsyncClient(raw().url)

    async def ask() -> str:
        found = await client.status()
        return found.version

    async def last() -> str:
        version = await ask()
        await client.close()
        return version

    assert asyncio.run(ask()) == asyncio.run(last()) == "1"
