"""A language model's load over real sockets: whose tokens came when, what is good, and what a cut stream counts as."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from modelport.bench.figures import Figures
from modelport.bench.language.figures import LanguageFigures, greatest_good
from modelport.bench.language.page import charts, page, promised
from modelport.bench.language.prompts import Mix, questions, read_texts
from modelport.bench.language.record import NOTHING, Promise
from modelport.bench.language.session import Asking, LanguageReport, LanguageSession
from modelport.bench.plan import Plan, carry_out
from modelport.bench.session import Options
from modelport.cli.language_picture import loads, picture, times
from modelport.errors import InvalidInput, NotFound
from modelport.sdk.endpoint import Target
from tests.bench.events import END, HEAD, event, said, usage
from tests.bench.fake import Answer, FakeServer, Got, fake_server, status


def written(first: float, gap: float, pieces: int = 4, tokens: int = 4) -> list[tuple[float, bytes]]:
    """An answer that begins after ``first`` seconds and goes on every ``gap``."""
    parts = [(0.0, HEAD), (0.0, said(""))]
    parts += [(first + number * gap, said("x")) for number in range(pieces)]
    last = first + (pieces - 1) * gap
    return [*parts, (last, said("", "stop") + usage(20, tokens, 5) + event(b"[DONE]") + END)]


def is_the_first(got: Got) -> bool:
    """The one request that is sent alone, to see whether everything is right."""
    return bool(json.loads(got.body)["max_tokens"] == 1)


def session(server: FakeServer, promise: Promise = NOTHING, **given: float) -> LanguageSession:
    options = Options(**{"duration": 1.0, "warmup": 0.0, "timeout": 3.0, **given})  # type: ignore[arg-type]
    return LanguageSession(Target(server.url), "m", Asking(Mix(tokens=8), promise=promise), options)


def as_language(found: Figures | None) -> LanguageFigures:
    assert isinstance(found, LanguageFigures)
    return found


def test_the_times_are_those_of_the_pieces() -> None:
    with fake_server(lambda got, number: written(0.1, 0.05)) as server, session(server) as load:
        found = as_language(load.with_callers(2))
        bodies = [json.loads(got.body) for got in server.got]
    assert found.ok == found.requests >= 6 and not found.errors
    first, token, gap, whole = found.ttft_ms, found.token_ms, found.gap_ms, found.latency_ms
    assert first["p50"] == pytest.approx(100, rel=0.3)
    assert token["p50"] == pytest.approx(50, rel=0.3)
    assert gap["p50"] == pytest.approx(50, rel=0.3)
    assert whole["p50"] == pytest.approx(250, rel=0.3)
    assert (found.tokens_in, found.tokens_out, found.cached) == (20, 4, 0.25)
    assert 12 <= found.tokens_per_s <= 36
    assert len({body["messages"][0]["content"] for body in bodies}) == len(bodies)  # no question twice
    assert all(body["stream"] and body["temperature"] == 0 for body in bodies)


def test_an_event_of_several_tokens_counts_as_several() -> None:
    with fake_server(lambda got, number: written(0.02, 0.06, pieces=3, tokens=13)) as server, session(server) as load:
        found = as_language(load.with_callers(1))
    assert found.tokens_out == 13
    assert found.gap_ms["p50"] == pytest.approx(60, rel=0.3)
    assert found.token_ms["p50"] == pytest.approx(10, rel=0.3)  # 120 ms for twelve


def test_the_wait_for_a_connection_is_part_of_the_first_text() -> None:
    with fake_server(lambda got, number: written(0.1, 0.0)) as server, session(server, connections=1) as load:
        found = as_language(load.at_rate(30))
    assert found.ttft_ms["max"] is not None and found.ttft_ms["max"] > 500


def test_only_what_keeps_both_limits_is_good() -> None:
    kinds = [(0.01, 0.01), (0.25, 0.01), (0.01, 0.2)]

    def answer(got: Got, number: int) -> Answer:
        return written(*kinds[number % 3])

    with fake_server(answer) as server, session(server, Promise(120, 80)) as load:
        found = as_language(load.with_callers(3))
    assert found.good is not None and found.goodput is not None
    assert found.ok > found.good >= found.ok // 3 - 3
    assert found.goodput == pytest.approx(found.good / found.seconds)
    assert greatest_good([found]) is None


def test_a_stream_that_breaks_off_is_no_answer() -> None:
    broken: list[Answer] = [
        [(0.0, HEAD), (0.01, said("x") + END)],
        [(0.0, HEAD), (0.01, said("x") + event({"error": {"message": "the replica ended"}}) + END)],
        [(0.0, HEAD), (0.01, event(b"nonsense") + END)],
        status(429, '{"error": {"message": "full"}}'),
        written(0.0, 0.0),
    ]
    with fake_server(lambda got, number: broken[number % 5]) as server, session(server) as load:
        found = as_language(load.at_rate(100))
    assert found.errors.keys() == {
        "the stream ended before the answer did",
        "the replica ended",
        "this is no event of a chat completion: nonsense",
    }
    assert found.refused and found.ok + found.refused + found.failed == found.requests
    assert found.ok == len([got for n, got in enumerate(server.got) if n % 5 == 4])


def test_steps_a_page_and_tables() -> None:
    with fake_server(lambda got, number: written(0.01, 0.005)) as server, session(server, Promise(500, 100)) as load:
        report = LanguageReport("m<", server.url, "chat", "open loop, Poisson arrivals", 0, promise=Promise(500, 100))
        carry_out(load, Plan(rates=(40.0, 20.0)), report, lambda what: None)
        assert is_the_first(server.got[0])
    assert [step.load for step in report.language_steps] == ["20/s", "40/s"]
    assert report.best is report.steps[1] and "up to 40/s" in promised(report)
    assert "slo_p99_ms" not in report.to_json() and report.to_json()["promise"] == {"ttft_ms": 500, "itl_ms": 100}
    text = page(report)
    assert text.count("<svg") == 4 and "m&lt;" in text and "<script" not in text
    for drawn in charts(report):
        ElementTree.fromstring(drawn)
    columns, rows = loads(report.language_steps)
    assert all(len(row) == len(columns) for row in rows) and "GOOD/S" in columns
    columns, rows = times(report.language_steps)
    assert all(len(row) == len(columns) for row in rows)
    assert picture(report.language_steps, 80)[0].startswith("first text")


def test_made_up_questions_are_as_long_as_was_said() -> None:
    source = questions(Mix(words=60, tokens=64, prefix_share=0.5, prefixes=3, prefix_words=50), 1)
    found = [next(source) for _ in range(2000)]
    lengths = np.array([len(one.prompt.split()) for one in found])
    assert np.median(lengths) == pytest.approx(60, rel=0.1) and lengths.std() > 30 and lengths.max() <= 8 * 60
    assert np.median([one.max_tokens for one in found]) == pytest.approx(64, rel=0.1)
    prefixes = [one.prefix for one in found if one.prefix is not None]
    assert len(prefixes) == pytest.approx(1000, rel=0.1) and len(set(prefixes)) == 3
    assert {len(text.split()) for text in prefixes} == {50}
    again = questions(Mix(words=60, tokens=64, prefix_share=0.5, prefixes=3, prefix_words=50), 1)
    assert [next(again) for _ in range(50)] == found[:50]
    even = questions(Mix(words=10, tokens=5, same_length=True), 0)
    assert {(len(one.prompt.split()), one.max_tokens) for one in (next(even) for _ in range(20))} == {(10, 5)}


def test_texts_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One\nquestion?\n\n\n\nAnother.\n")
    assert read_texts(tmp_path / "a.txt") == (("One question?", None), ("Another.", None))
    (tmp_path / "a.jsonl").write_text('{"prompt": "Why?", "max_tokens": 3}\n\n{"prompt": "Who?"}\n')
    texts = read_texts(tmp_path / "a.jsonl")
    assert texts == (("Why?", 3), ("Who?", None))
    source = questions(Mix(tokens=9, same_length=True, texts=texts), 0)
    asked = [next(source) for _ in range(3)]
    assert [(one.prompt, one.max_tokens) for one in asked] == [("Why?", 3), ("Who?", 9), ("Why?", 3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "line 1 has no 'prompt' with text"),
        ("{", "line 1 is not JSON"),
        ('\n{"prompt": "a", "max_tokens": 0}', "line 2: 'max_tokens' is '0'"),
        ("", "is empty"),
    ],
)
def test_a_file_that_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_texts(tmp_path / "a.jsonl")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is no file"):
        read_texts(tmp_path / "b.txt")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_texts(tmp_path / "c.txt")
