"""Answers in parts from outside: generate_stream over HTTP and ModelStreamInfer by tritonclient, with cancellation."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests import streaming
from tests.services.served import Served, serve

pytestmark = pytest.mark.xdist_group("streams")
PROMPT = "the quick brown fox"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("words")
    path = streaming.installed(folder / "site")
    with serve(streaming.write_model(folder), folder, "--name", "words", PYTHONPATH=path) as served:
        yield served


def post(served: Served, verb: str, body: Any) -> httpx.Response:
    return httpx.post(f"{served.url}/v2/models/words/{verb}", json=body, timeout=30)


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(block.removeprefix("data: ")) for block in text.split("\n\n") if block]


@pytest.mark.parametrize(
    "body",
    [
        {"text_input": PROMPT, "parameters": {"stream": True, "pause_ms": 1}},
        {"text_input": PROMPT, "pause_ms": [1]},
        {"prompt": [PROMPT], "pause_ms": 1},
    ],
)
def test_generate_stream_gives_an_event_for_each_part(words: Served, body: Any) -> None:
    answer = post(words, "generate_stream", {"id": "seven", **body})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    name = "text_output" if "text_input" in body else "word"
    head = {"id": "seven", "model_name": "words", "model_version": "1"}
    assert events(answer.text) == [{**head, name: word, "index": i} for i, word in enumerate(PROMPT.split())]


def test_generate_gives_the_whole(words: Served) -> None:
    answer = post(words, "generate", {"text_input": PROMPT, "pause_ms": 0})
    assert answer.json() == {"model_name": "words", "model_version": "1", "text_output": PROMPT, "index": 4}


def test_parts_arrive_while_the_rest_is_made(words: Served) -> None:
    body = {"text_input": "one two", "pause_ms": 700}
    with httpx.stream("POST", f"{words.url}/v2/models/words/generate_stream", json=body, timeout=30) as answer:
        arrived = [time.monotonic() for line in answer.iter_lines() if line]
    assert arrived[1] - arrived[0] > 0.3


def test_who_hangs_up_stops_the_model(words: Served) -> None:
    before = words.log.read_text().count("words_ended")
    body = {"text_input": "word " * 1000, "pause_ms": 20}
    with httpx.stream("POST", f"{words.url}/v2/models/words/generate_stream", json=body, timeout=30) as answer:
        next(answer.iter_lines())
    last = [line for line in words.wait_for_log("words_ended", before + 1).splitlines() if "words_ended" in line][-1]
    assert json.loads(last)["given"] < 500
    assert post(words, "generate", {"text_input": "still here", "pause_ms": 0}).json()["text_output"] == "still here"


@pytest.mark.parametrize(
    ("verb", "body", "status", "said"),
    [
        ("generate_stream", {"text_input": "fail", "pause_ms": 0}, 400, "the word 'fail'"),
        ("generate_stream", {"pause_ms": 0}, 400, "'prompt' is missing"),
        ("generate", {"text_input": 7, "pause_ms": 0}, 400, "is an integer; BYTES takes strings"),
        ("generate", {"text_input": "x", "pause_ms": 0, "speed": 1}, 400, "'speed' is unknown"),
        ("generate", {"text_input": "x", "parameters": [1]}, 400, "'parameters' must be an object"),
        ("generate", {"prompt": "x", "pause_ms": 0, "parameters": {"prompt": "y"}}, 400, "given twice"),
        ("generate", {"text_input": ["x", "y"], "pause_ms": 0}, 400, "shape [2] given, the model takes [1]"),
        ("generate", {"text_input": "x", "pause_ms": 0, "id": 3}, 400, "'id' must be a string"),
        ("generate", {"text_input": "x", "pause_ms": 0, "parameters": {"timeout": -1}}, 400, "'timeout'"),
    ],
)
def test_what_cannot_be_generated_is_refused(words: Served, verb: str, body: Any, status: int, said: str) -> None:
    answer = post(words, verb, body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]


def test_an_error_after_the_first_part_is_an_event(words: Served) -> None:
    answer = post(words, "generate_stream", {"text_input": "all is fail", "pause_ms": 0})
    assert [event.get("text_output", event.get("error")) for event in events(answer.text)] == [
        "all", "is", "the word 'fail' is not said",
    ]  # fmt: skip


def test_a_deadline_ends_a_stream(words: Served) -> None:
    body = {"text_input": "word " * 100, "pause_ms": 50, "parameters": {"timeout": 400_000}}
    found = events(post(words, "generate_stream", body).text)
    assert 1 < len(found) < 60
    assert "deadline" in found[-1]["error"]


def test_a_replica_that_dies_ends_its_streams_with_an_event(words: Served) -> None:
    body = {"text_input": "word " * 1000, "pause_ms": 20}
    found: list[dict[str, Any]] = []
    with httpx.stream("POST", f"{words.url}/v2/models/words/generate_stream", json=body, timeout=30) as answer:
        for line in answer.iter_lines():
            here = events(line)  # none in the empty lines between two
            found += here
            if here and len(found) == 2:
                (replica,) = psutil.Process(words.pid).children()
                replica.kill()
    assert "died in the middle of this stream" in found[-1]["error"]
    assert post(words, "generate", {"text_input": "back again", "pause_ms": 0}).json()["text_output"] == "back again"


def tensors(text: str, pause_ms: int) -> list[triton.InferInput]:
    prompt, pause = triton.InferInput("prompt", [1], "BYTES"), triton.InferInput("pause_ms", [1], "INT64")
    prompt.set_data_from_numpy(np.array([text], object))
    pause.set_data_from_numpy(np.array([pause_ms], np.int64))
    return [prompt, pause]


class Answers:
    """What a tritonclient stream has called back with."""

    def __init__(self) -> None:
        self.queue: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def __call__(self, result: Any, error: Any) -> None:
        self.queue.put((result, error))

    def next(self) -> tuple[str | None, Any]:
        """The word, and the final flag; raises what came instead."""
        result, error = self.queue.get(timeout=20)
        if error is not None:
            raise error
        word = result.as_numpy("word")
        final = result.get_response().parameters["triton_final_response"].bool_param
        return None if word is None else word[0].decode(), final


def test_tritonclient_gets_several_responses_to_one_request(words: Served) -> None:
    with triton.InferenceServerClient(words.grpc) as client:
        assert client.get_model_config("words").config.model_transaction_policy.decoupled
        answers = Answers()
        client.start_stream(answers)
        client.async_stream_infer("words", tensors(PROMPT, 1), enable_empty_final_response=True)
        assert [answers.next() for _ in range(5)] == [*((word, False) for word in PROMPT.split()), (None, True)]
        client.async_stream_infer("words", tensors("no final", 0))
        client.async_stream_infer("words", tensors("good fail", 0), request_id="bad")
        client.async_stream_infer("words", tensors("on", 0))
        assert [answers.next()[0] for _ in range(3)] == ["no", "final", "good"]
        with pytest.raises(InferenceServerException, match="the word 'fail' is not said"):
            answers.next()
        assert answers.next() == ("on", False)
        client.stop_stream()


def test_a_cancelled_grpc_stream_stops_the_model(words: Served) -> None:
    before = words.log.read_text().count("words_ended")
    with triton.InferenceServerClient(words.grpc) as client:
        answers = Answers()
        client.start_stream(answers)
        client.async_stream_infer("words", tensors("word " * 1000, 20))
        assert answers.next() == ("word", False)
        client.stop_stream(cancel_requests=True)
    last = [line for line in words.wait_for_log("words_ended", before + 1).splitlines() if "words_ended" in line][-1]
    assert json.loads(last)["given"] < 500


def test_a_reader_that_falls_too_far_behind_is_cut_off_and_holds_nobody(words: Served) -> None:
    prompt = " ".join(["w" * 1_000_000] * 60)
    body = json.dumps({"text_input": prompt, "pause_ms": 0})
    with httpx.stream("POST", f"{words.url}/v2/models/words/generate_stream", content=body, timeout=60) as answer:
        assert post(words, "generate", {"text_input": "me too", "pause_ms": 0}).status_code == 200
        found = events(answer.read().decode())
    assert "16 MiB behind; read faster" in found[-1]["error"]
    assert 0 < len(found) - 1 < 60
