"""OpenAI's Files and Batches by its own client, at a real server with a real language model (SmolLM2-135M)."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.services.conftest import Server
from tests.services.job_calls import workers_of
from tests.services.test_openai import weights

pytestmark = pytest.mark.xdist_group("language")
MODEL = "smollm2"
ENDPOINT = "/v1/chat/completions"
OVER = ("completed", "failed", "expired", "cancelled")


def started(server: Server) -> Server:
    with server.client(timeout=90) as client:
        client.models.push(weights(), MODEL)
        client.deploy(MODEL)
    return server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("openvino_genai")
    env = {"MODELPORT_JOBS_BACKOFF_S": "0.1"}
    found = Server(tmp_path_factory.mktemp("batches") / "home", ("--gateways", "1"), env).start()
    try:
        yield started(found)
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
    lines = [*(line(number, max_tokens=40, temperature=0) for number in range(18)), *wrong]
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
        job = ours.jobs.get(batch.removeprefix("batch_"))
    assert (job.state, job.attempt) == ("succeeded", 2)
