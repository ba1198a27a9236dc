"""What Prometheus is told of a real language model on a real server: under our names by key, under vLLM's by model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.services.conftest import Server
from tests.services.served import talking_weights

openai = pytest.importorskip("openai")
pytestmark = pytest.mark.xdist_group("language")
MODEL = "counted-words"
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]


class Figures:
    """One scrape."""

    def __init__(self, server: Server) -> None:
        answer = httpx.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {server.token}"}, timeout=30)
        assert answer.status_code == 200
        self.samples = [s for family in text_string_to_metric_families(answer.text) for s in family.samples]

    def of(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name with those labels."""
        mine = labels | ({"model_name": MODEL} if name.startswith("vllm:") else {"endpoint": MODEL})
        found = [s.value for s in self.samples if s.name == name and mine.items() <= s.labels.items()]
        assert found, f"no {name} with {mine}"
        return sum(found)

    def has(self, name: str, **labels: str) -> bool:
        return any(s.name == name and labels.items() <= s.labels.items() for s in self.samples)


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, Any]]]:
    """A server with the model, and a client for each of two keys."""
    pytest.importorskip("openvino_genai")
    server = Server(tmp_path_factory.mktemp("counted")).start()
    try:
        yield server, with_two_keys(server)
    finally:
        server.stop()


def with_two_keys(server: Server) -> dict[str, Any]:
    with server.client() as client:
        client.models.push(talking_weights(), MODEL)
        client.deploy(MODEL)
        made = {name: client.keys.create(name=name, role="caller") for name in ("ada", "bob")}
    return {
        made[name].id: openai.OpenAI(base_url=f"{server.url}/v1", api_key=made[name].secret, max_retries=0)
        for name in made
    }


def test_tokens_times_and_ends_by_key_and_by_model(speaking: tuple[Server, dict[str, Any]]) -> None:
    server, clients = speaking
    said: dict[str, list[Any]] = {}
    for key, count in zip(clients, (3, 1), strict=True):
        said[key] = [
            clients[key].chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=limit)
            for limit in (5, 40, 5)[:count]
        ]
    figures = Figures(server)
    everything = [answer for answers in said.values() for answer in answers]
    for key, answers in said.items():
        assert figures.of("modelport_prompt_tokens_total", key=key) == sum(a.usage.prompt_tokens for a in answers)
        assert figures.of("modelport_generated_tokens_total", key=key) == sum(
            a.usage.completion_tokens for a in answers
        )
        for name in ("first_token", "text", "text_queue"):
            assert figures.of(f"modelport_{name}_seconds_count", key=key) == len(answers)
    ends = [answer.choices[0].finish_reason for answer in everything]
    assert set(ends) == {"length", "stop"}
    for how in set(ends):
        assert figures.of("vllm:request_success_total", finished_reason=how) == ends.count(how)
    tokens_in, tokens_out = (
        sum(getattr(a.usage, n) for a in everything) for n in ("prompt_tokens", "completion_tokens")
    )
    assert figures.of("vllm:prompt_tokens_total") == figures.of("vllm:request_prompt_tokens_sum") == tokens_in
    assert figures.of("vllm:generation_tokens_total") == figures.of("vllm:request_generation_tokens_sum") == tokens_out
    assert figures.of("vllm:request_max_num_generation_tokens_sum") == 5 + 40 + 5 + 5
    for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time", "request_prefill_time",
                 "request_decode_time", "request_time_per_output_token"):  # fmt: skip
        assert figures.of(f"vllm:{name}_seconds_count") == len(everything), name
        assert figures.of(f"vllm:{name}_seconds_bucket", le="+Inf") == len(everything), name
    gaps = tokens_out - len(everything)
    assert figures.of("vllm:inter_token_latency_seconds_count") == gaps
    assert figures.of("vllm:time_per_output_token_seconds_count") == gaps
    parts = [figures.of(f"vllm:request_{name}_time_seconds_sum") for name in ("queue", "prefill", "decode")]
    assert sum(parts) == pytest.approx(figures.of("vllm:e2e_request_latency_seconds_sum"), rel=1e-3)
    assert figures.of("vllm:time_to_first_token_seconds_sum") == pytest.approx(sum(parts[:2]), rel=1e-3)


def test_what_is_under_way_shows_and_who_goes_away_is_counted(speaking: tuple[Server, dict[str, Any]]) -> None:
    server, clients = speaking
    key, client = next(iter(clients.items()))
    before = Figures(server)
    streams = [
        client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=3000, stream=True, extra_body={"ignore_eos": True}
        )
        for _ in range(3)
    ]
    for stream in streams:
        next(stream)
    deadline = time.monotonic() + 20
    while (now := Figures(server)).of("vllm:num_requests_running") != 3:  # a replica tells twice a second
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert now.of("modelport_texts_in_flight", key=key, state="writing") == 3
    assert now.of("modelport_replica_texts_running") == 3
    assert 0 < now.of("vllm:kv_cache_usage_perc") == now.of("vllm:gpu_cache_usage_perc") <= 1
    assert now.of("vllm:num_requests_waiting") == 0
    assert now.of("vllm:generation_tokens_total") > before.of("vllm:generation_tokens_total")
    for stream in streams:
        stream.close()
    while (now := Figures(server)).of("vllm:num_requests_running"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert now.of("vllm:request_success_total", finished_reason="abort") == 3
    assert not now.has("modelport_texts_in_flight", key=key)
    assert now.of("vllm:e2e_request_latency_seconds_count") == before.of("vllm:e2e_request_latency_seconds_count")


def test_what_is_refused_and_what_only_asks_for_tokens_is_no_text(speaking: tuple[Server, dict[str, Any]]) -> None:
    server, clients = speaking
    client = next(iter(clients.values()))
    before = Figures(server)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 9000}])
    headers = {"authorization": f"Bearer {client.api_key}"}
    body = {"model": MODEL, "prompt": "one two three"}
    assert httpx.post(f"{server.url}/tokenize", json=body, headers=headers).json()["count"] == 3
    after = Figures(server)
    for name in ("vllm:prompt_tokens_total", "vllm:time_to_first_token_seconds_count", "vllm:request_success_total"):
        assert after.of(name) == before.of(name)
    assert not after.has("vllm:request_success_total", finished_reason="error")


def test_sums_hold_under_many_callers(speaking: tuple[Server, dict[str, Any]]) -> None:
    """Over all gateways."""
    server, clients = speaking
    before = Figures(server)

    def ask(number: int) -> tuple[int, int]:
        key = list(clients)[number % 2]
        answer = clients[key].completions.create(
            model=MODEL, prompt=f"{number} and " * (1 + number % 5), max_tokens=1 + number % 9, temperature=0
        )
        return answer.usage.prompt_tokens, answer.usage.completion_tokens

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(ask, range(24)))
    after = Figures(server)
    for name, count in (("prompt", sum(t[0] for t in told)), ("generation", sum(t[1] for t in told))):
        assert after.of(f"vllm:{name}_tokens_total") - before.of(f"vllm:{name}_tokens_total") == count
