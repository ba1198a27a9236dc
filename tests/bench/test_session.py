"""Load over real sockets: what was due when, what a stall does to each loop, and what becomes of failures."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from modelport.bench import server_figures
from modelport.bench.arrivals import poisson, replayed
from modelport.bench.figures import Figures
from modelport.bench.plan import Plan, Report, carry_out
from modelport.bench.session import Options, Session
from modelport.bench.shots import Shot
from modelport.errors import InvalidInput, NotAuthenticated, NotFound, Unavailable
from modelport.sdk.endpoint import Target
from tests.bench.fake import OK, FakeServer, Got, fake_server, status

SHOT = Shot("/v2/models/m/infer", {"content-type": "application/json"}, b"[1]")


@contextmanager
def session(server: FakeServer, key: str | None = "secret", **options: float) -> Iterator[Session]:
    given = {"duration": 1.0, "warmup": 0.0, "timeout": 3.0, **options}
    with Session(Target(server.url, key), "m", SHOT, Options(**given)) as found:  # type: ignore[arg-type]
        yield found


def test_an_open_loop_sends_when_requests_are_due() -> None:
    with fake_server() as server, session(server, duration=2.0, warmup=0.3, seed=199) as load:
        found = load.at_rate(200)
        assert found is not None
        due = poisson(200, 2.3, 199)  # the last is due 27 ms before the end, so that its answer counts
        posts = server.got
        assert len(posts) == len(due)
        assert found.requests == found.ok == int((due >= 0.3).sum())
        assert found.offered == found.achieved == found.requests / 2
        sent = np.array([got.at for got in posts])
        drift = (sent - sent[0]) - (due - due[0])
        assert np.median(np.abs(drift)) < 0.02
        assert posts[0].headers["authorization"] == "Bearer secret"
        assert posts[0].body == b"[1]"
        assert server.connections < 60  # connections are kept


def test_a_stall_shows_in_an_open_loop_and_hides_in_a_closed_one() -> None:
    """The same server stands still once, for half a second of two: a quarter of the arrivals have to wait."""
    pause = 0.5
    with fake_server() as server, session(server, duration=2.0) as load:
        server.stall(pause, after=0.7)
        opened = load.at_rate(400)
        server.stall(pause, after=0.7)
        closed = load.with_callers(1)
    assert opened is not None and closed is not None
    times, hidden = opened.latency_ms, closed.latency_ms
    assert times["max"] >= 0.95e3 * pause  # who comes just after its beginning waits for all of it
    assert times["p99"] >= 0.9e3 * pause
    assert times["p90"] >= 0.4e3 * pause
    assert opened.ok == opened.requests
    assert closed.ok > 1000
    assert hidden["max"] >= 0.95e3 * pause  # one request saw it
    assert hidden["p99"] < 0.1e3 * pause  # and the percentiles do not


def test_requests_that_find_no_connection_are_counted_from_when_they_were_due() -> None:
    with fake_server() as server, session(server, duration=1.0, connections=1) as load:
        server.stall(0.5, after=0.3)
        found = load.at_rate(200)
    assert found is not None
    assert found.backlog_most > 50 and found.ok == found.requests
    assert found.latency_ms["p90"] > 300
    assert "waited for one of the connections" in " ".join(found.warnings)


def test_what_is_over_at_the_end_is_told_as_unsent() -> None:
    def slow(got: Got, number: int) -> bytes:
        time.sleep(0.02)
        return OK

    with fake_server(slow) as server, session(server, connections=1, timeout=10) as load:
        found = load.at_rate(100)
    assert found is not None
    assert found.unsent > 20
    assert found.achieved < 60 < found.offered
    assert found.ok == found.requests  # they were answered, late


def test_a_closed_loop_has_one_request_per_caller() -> None:
    with fake_server() as server, session(server, duration=0.5) as load:
        found = load.with_callers(3)
        assert found is not None and found.callers == 3
        assert server.connections == 4  # the fourth asked for /metrics
        assert found.ok == found.requests > 100 and not found.errors


def test_failures_are_told_apart() -> None:
    answers = [
        OK,
        status(429, '{"error": {"message": "the queue is full"}}', "retry-after: 1"),
        status(500, '{"error": "it  failed\\non this"}'),
        status(502, "<html>"),
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        b"",
    ]

    def answer(got: Got, number: int) -> bytes:
        return answers[int(got.body)]

    with fake_server(answer) as server, session(server) as load:
        log = [f'{{"time": {i / 100}, "path": "/x", "body": {i % 6}}}' for i in range(60)]
        found = _replay(load, "\n".join(log))
    assert found.ok == 20 and found.refused == 10 and found.requests == 60
    assert found.errors == {
        "500 it failed on this": 10,
        "502 <html>": 10,
        "the server closed the connection": 10,
    }


def _replay(load: Session, text: str, speed: float = 1.0) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "log.jsonl"
        file.write_text(text)
        found = load.as_logged(replayed(file, speed), speed)
    assert found is not None
    return found


def test_an_answer_that_does_not_come_is_given_up() -> None:
    def every_tenth_never(got: Got, number: int) -> bytes | None:
        return None if number % 10 == 9 else OK

    with fake_server(every_tenth_never) as server, session(server, timeout=0.5, duration=0.5) as load:
        found = load.at_rate(100)
        silent = len(server.got) // 10
    assert found is not None
    assert sum(found.errors.values()) == found.errors["no answer within --timeout"] >= silent >= 3
    assert found.latency_ms["max"] >= 500
    assert found.ok + found.failed == found.requests
    assert found.slo_p99_ms is None


def test_a_log_is_replayed_at_its_own_times() -> None:
    times = [0.0, 0.1, 0.11, 0.5, 0.9]
    text = "\n".join(f'{{"time": {1000 + t}, "path": "/p/{i}", "body": [{i}]}}' for i, t in enumerate(times))
    with fake_server() as server, session(server) as load:
        found = _replay(load, text, speed=2)
        got = server.got
    assert [(g.path, g.body) for g in got] == [(f"/p/{i}", b"[%d]" % i) for i in range(5)]
    arrived = [g.at - got[0].at for g in got]
    assert arrived == pytest.approx([t / 2 for t in times], abs=0.05)
    assert found.ok == found.requests == 5


def test_a_wrong_call_fails_once_with_the_servers_own_words() -> None:
    for code, kind, wanted in (
        ("not_found", NotFound, 404),
        ("not_authenticated", NotAuthenticated, 401),
        ("invalid_input", InvalidInput, 400),
    ):
        body = f'{{"error": {{"code": "{code}", "message": "this is {code}"}}}}'
        with fake_server(lambda got, number, w=wanted, b=body: status(w, b)) as server, session(server) as load:
            report = Report("m", server.url, "v2", "open", 0)
            with pytest.raises(kind, match=f"this is {code}"):
                carry_out(load, Plan(rates=(1000.0,)), report, lambda what: None)
            assert len(server.got) == 1


def test_nobody_there() -> None:
    with fake_server() as server:
        pass
    with session(server) as load, pytest.raises(Unavailable, match="no server answers"):
        load.check()


def test_a_server_that_gives_way_ends_the_steps() -> None:
    def answer(got: Got, number: int) -> bytes:
        return OK if number < 15 else status(500, '{"error": "broken"}')

    with fake_server(answer) as server, session(server, duration=0.3) as load:
        report = Report("m", server.url, "v2", "open", 0)
        carry_out(load, Plan(rates=(300.0, 100.0, 200.0)), report, lambda what: None)
    assert [found.load for found in report.steps] == ["100/s", "200/s"]
    assert "no request was answered" in report.warnings[0]
    assert report.steps[1].errors == {"500 broken": report.steps[1].requests}


@pytest.mark.long
def test_rates_follow_from_the_capacity() -> None:
    def slow(got: Got, number: int) -> bytes:
        time.sleep(0.005)
        return OK

    with fake_server(slow) as server, session(server, duration=0.4, timeout=5) as load:
        notes: list[str] = []
        report = Report("m", server.url, "v2", "open", 0, slo_p99_ms=1000.0)
        carry_out(load, Plan(), report, notes.append)
    assert report.capacity is not None and 80 < report.capacity < 220
    assert len(report.steps) == 11
    assert notes[0] == "looking for the capacity" and notes[-1].endswith("(step 11 of 11)")
    assert report.best is not None


def test_the_servers_own_figures_are_read_from_its_text() -> None:
    labels = '{endpoint="m",model="m",project="default",version="%d"}'
    before = _exposition(labels, runs=10, rows=40, queue=1.0, done=20)
    after = _exposition(labels, runs=20, rows=100, queue=1.5, done=70)
    found = server_figures.parse(after, "m").since(server_figures.parse(before, "m"))
    assert found == {"batch_rows": 6.0, "queue_ms": pytest.approx(10.0)}
    assert server_figures.parse(after, "other") == server_figures.Counted()
    assert server_figures.Counted().since(server_figures.Counted()) == {"batch_rows": None, "queue_ms": None}


def _exposition(labels: str, **sums: float) -> str:
    """Two versions, each with half."""
    lines = []
    for name, key in (
        ("modelport_runs_total", "runs"),
        ("modelport_batch_rows_sum", "rows"),
        ("modelport_queue_seconds_total", "queue"),
        ("modelport_inferences_total", "done"),
    ):
        family = name.removesuffix("_sum")
        lines.append(f"# TYPE {family} {'counter' if family == name else 'histogram'}")
        lines += [f"{name}{labels % version} {sums[key] / 2}" for version in (1, 2)]
    return "\n".join(lines) + "\n"
