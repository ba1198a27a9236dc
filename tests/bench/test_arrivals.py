"""Random arrivals are those of a Poisson process; a log keeps its times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from modelport.bench.arrivals import poisson, replayed
from modelport.errors import InvalidInput, NotFound


def test_arrivals_are_a_poisson_process() -> None:
    rate, seconds = 200.0, 100.0
    times = poisson(rate, seconds, seed=7)
    assert times[0] >= 0 and times[-1] < seconds and (np.diff(times) > 0).all()
    assert abs(len(times) - rate * seconds) < 4 * np.sqrt(rate * seconds)
    # Gaps are exponential: the distance to that distribution function is below Kolmogorov's bound (1 %).
    gaps = np.sort(np.diff(times))
    steps = np.arange(1, len(gaps) + 1) / len(gaps)
    distance = np.abs(steps - (1 - np.exp(-rate * gaps))).max()
    assert distance < 1.63 / np.sqrt(len(gaps))
    # Gaps do not know of one another, and counts of equal spans vary as much as they are large.
    raw = np.diff(times)
    assert abs(np.corrcoef(raw[:-1], raw[1:])[0, 1]) < 4 / np.sqrt(len(raw))
    counts, _ = np.histogram(times, bins=1000, range=(0, seconds))
    assert 0.85 < counts.var() / counts.mean() < 1.15


def test_evenly_spaced_arrivals_would_not_pass() -> None:
    counts, _ = np.histogram(np.arange(0, 100, 1 / 200), bins=1000, range=(0, 100))
    assert counts.var() / counts.mean() < 0.1


def test_a_seed_gives_the_same_arrivals_again() -> None:
    assert np.array_equal(poisson(50, 10, 1), poisson(50, 10, 1))
    assert not np.array_equal(poisson(50, 10, 1)[:50], poisson(50, 10, 2)[:50])
    assert len(poisson(0.001, 1, 0)) in (0, 1)


def test_a_log_keeps_its_times(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [
        {"time": "2026-01-31T12:00:00.500Z", "body": "as it is"},
        {"time": "2026-01-31T12:00:00Z", "path": "/predict/digits", "body": {"data": [[1, 2]]}},
        {"time": "2026-01-31T13:00:02+01:00", "status": 200},
    ]
    log.write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    found = replayed(log, speed=2)
    assert [(line.at, line.path, line.body) for line in found] == [
        (0.0, "/predict/digits", b'{"data":[[1,2]]}'),
        (0.25, None, b"as it is"),
        (1.0, None, None),
    ]
    assert len(replayed(log, speed=2, seconds=0.5)) == 2
    log.write_text('{"time": 10.5}\n{"time": 10}\n')
    assert [line.at for line in replayed(log)] == [0.0, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no requests"),
        ("{", "line 1 is not JSON"),
        ('{"time": 1}\n[]', "line 2 has no 'time'"),
        ('{"time": "soon"}', "'time' is 'soon'"),
        ('{"time": true}', "'time' is 'True'"),
        ('{"time": 1, "path": "http://elsewhere/"}', "'path' is not like"),
        ('{"time": 1, "path": "/a\\r\\nx: y"}', "'path' is not like"),
        ('{"time": 1, "path": "/a b"}', "a blank as %20"),
    ],
)
def test_a_log_that_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        replayed(log)


def test_a_log_that_is_not_there() -> None:
    with pytest.raises(NotFound, match="is no file"):
        replayed(Path("nolog.jsonl"))
