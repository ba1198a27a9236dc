"""Requests that are tried again, errors that cross the wire, and the two clients that are one."""

from __future__ import annotations

import asyncio
import inspect

import httpx
import pytest

from modelport import AsyncClient, Client, errors
from modelport.sdk import awaiting, blocking
from modelport.sdk.flows import LONGEST_PAUSE, Unreachable, path_of
from tests.sdk.fake import async_client, client, native_error

STATUS = {
    "version": "1", "pid": 1, "uptime_s": 1, "http": "h", "grpc": None, "keys_required": False, "gateways": [],
    "deployments": [],
}  # fmt: skip


class Script:
    """Answers in turn; remembers what was asked. An exception is raised in place of an answer."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.asked = list(answers), []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that would have been made."""
    made: list[float] = []

    async def asleep(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(blocking.time, "sleep", made.append)
    monkeypatch.setattr(awaiting.asyncio, "sleep", asleep)
    return made


def test_a_server_that_is_not_there_yet_is_asked_again(pauses: list[float]) -> None:
    script = Script(httpx.ConnectError("refused"), httpx.ConnectError("refused"), httpx.Response(200, json=STATUS))
    assert client(script).status().version == "1"
    assert len(script.asked) == 3
    assert pauses == sorted(pauses) and len(pauses) == 2


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "model_rejected_input", errors.ModelRejectedInput),
        (422, "artifact_refused", errors.ArtifactRefused),
        (500, "run_failed", errors.RunFailed),
        (400, "of_a_newer_server", errors.InvalidInput),
    ],
)
def test_a_plain_error_is_known_by_the_code_beside_it(status: int, code: str, kind: type[Exception]) -> None:
    script = Script(httpx.Response(status, json={"error": "no"}, headers={errors.CODE_HEADER: code}))
    with pytest.raises(errors.ModelportError, match="no") as raised:
        client(script).status()
    assert type(raised.value) is kind


def test_it_gives_up_and_says_where(pauses: list[float]) -> None:
    script = Script(*[httpx.ConnectError("refused")] * 3)
    with pytest.raises(Unreachable, match="refused"):
        client(script).status()
    assert len(script.asked) == 3
    assert isinstance(Unreachable("x", sent=False), errors.Unavailable)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed_and_bounded(pauses: list[float], status: int) -> None:
    busy = native_error(status, "overloaded", "busy", **{"retry-after": "3"})
    long = native_error(status, "overloaded", "busy", **{"retry-after": "3600"})
    script = Script(busy, long, httpx.Response(200, json=STATUS))
    client(script).status()
    assert pauses == [3.0, LONGEST_PAUSE]


def test_without_retry_after_an_error_is_final(pauses: list[float]) -> None:
    script = Script(native_error(503, "unavailable", "no replica is ready"))
    with pytest.raises(errors.Unavailable, match="no replica is ready"):
        client(script).status()
    assert pauses == []


def test_what_is_not_idempotent_is_sent_again_only_if_it_never_left(pauses: list[float]) -> None:
    script = Script(httpx.ReadError("reset"))
    with pytest.raises(Unreachable, match="reset"):
        client(script).keys.create("app")
    assert len(script.asked) == 1
    script = Script(native_error(503, "unavailable", "busy", **{"retry-after": "1"}))
    with pytest.raises(errors.Unavailable):
        client(script).keys.create("app")
    assert len(script.asked) == 1
    script = Script(httpx.ConnectError("refused"), native_error(403, "not_allowed", "no"))
    with pytest.raises(errors.NotAllowed):
        client(script).keys.create("app")
    assert len(script.asked) == 2


def test_an_idempotent_request_survives_a_broken_connection(pauses: list[float]) -> None:
    script = Script(httpx.RemoteProtocolError("disconnected"), httpx.Response(200, json=STATUS))
    assert client(script).status().pid == 1


@pytest.mark.parametrize("cls", list(errors.BY_CODE.values()))
def test_every_error_of_the_tree_crosses_the_wire(cls: type[errors.ModelportError]) -> None:
    script = Script(native_error(cls.status, cls.code, "the cause"))
    with pytest.raises(errors.ModelportError) as caught:
        client(script).status()
    assert type(caught.value) is cls
    assert caught.value.message == "the cause"
    assert caught.value.__notes__ == ["request id r1"]


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, errors.InvalidInput), (401, errors.NotAuthenticated), (404, errors.NotFound), (413, errors.TooLarge),
        (418, errors.InvalidInput), (429, errors.Overloaded), (500, errors.ModelportError), (502, errors.Unavailable),
        (503, errors.Unavailable), (504, errors.DeadlineExceeded),
    ],
)  # fmt: skip
def test_errors_of_other_protocols_go_by_status(status: int, cls: type[errors.ModelportError]) -> None:
    with pytest.raises(errors.ModelportError) as caught:
        client(Script(httpx.Response(status, json={"error": "the text"}))).status()
    assert type(caught.value) is cls
    assert caught.value.message == "the text"
    with pytest.raises(errors.ModelportError, match=f"HTTP status {status}") as caught:
        client(Script(httpx.Response(status, text="<html>"))).status()
    assert type(caught.value) is cls


def test_retry_after_reaches_the_caller() -> None:
    busy = native_error(429, "overloaded", "busy", **{"retry-after": "0"})
    with pytest.raises(errors.Overloaded) as caught:
        client(Script(busy, busy, native_error(429, "overloaded", "busy", **{"retry-after": "7"}))).status()
    assert caught.value.retry_after == 7


def test_a_key_does_not_follow_a_redirect() -> None:
    script = Script(httpx.Response(307, headers={"location": "http://evil.test/"}))
    with pytest.raises(errors.NotAllowed, match="redirects"):
        client(script, key="mp_secret").status()
    assert len(script.asked) == 1
    assert script.asked[0].headers["authorization"] == "Bearer mp_secret"


def test_an_answer_that_is_not_json() -> None:
    with pytest.raises(errors.Unavailable, match="is this a Modelport server"):
        client(Script(httpx.Response(200, text="hello"))).status()


def test_pages_are_put_together() -> None:
    made = {"latest_version": 1, "versions": 1, "created_at": "2026-01-01T00:00:00Z"}
    names = [f"m{number:04}" for number in range(1203)]

    def answer(request: httpx.Request) -> httpx.Response:
        limit, after = int(request.url.params["limit"]), request.url.params.get("after", "")
        page = [{"name": name, **made} for name in names if name > after][:limit]
        return httpx.Response(200, json={"items": page})

    assert [model.name for model in client(answer).models.list()] == names


async def test_the_asynchronous_client_is_the_same(pauses: list[float]) -> None:
    script = Script(
        httpx.ConnectError("refused"),
        native_error(503, "unavailable", "busy", **{"retry-after": "2"}),
        httpx.Response(200, json=STATUS),
        native_error(404, "not_found", "no key"),
    )
    async with async_client(script) as found:
        assert (await found.status()).version == "1"
        with pytest.raises(errors.NotFound):
            await found.keys.revoke("k")
    assert pauses[-1] == 2.0


async def test_calls_of_one_asynchronous_client_run_together() -> None:
    together = asyncio.Barrier(5)

    async def answer(request: httpx.Request) -> httpx.Response:
        await together.wait()
        return httpx.Response(200, json=STATUS)

    async with async_client(answer) as found:
        assert len(await asyncio.gather(*(found.status() for _ in range(5)))) == 5


def test_both_clients_offer_the_same() -> None:
    def surface(cls: type) -> set[str]:
        return {name for name in dir(cls) if not name.startswith("_")}

    assert surface(Client) == surface(AsyncClient)


def test_an_operation_keeps_its_name_doc_and_signature() -> None:
    method = client(Script()).models.push
    assert method.__name__ == "push"
    assert "Register" in (method.__doc__ or "")
    assert "alias" in inspect.signature(method).parameters
    assert "Register" in (type(client(Script()).models).push.__doc__ or "")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a"])
def test_a_name_cannot_climb_out_of_a_path(name: str) -> None:
    with pytest.raises(errors.InvalidInput):
        path_of("models", name)


def test_a_path_is_encoded() -> None:
    assert path_of("models", "b?c#d%2e é") == "/models/b%3Fc%23d%252e%20%C3%A9"


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "nonsense"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(errors.InvalidInput, match="is not like http"):
        Client(url)
