"""The cache: equal inputs run once, bytes are bounded, failures are not kept."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelport import errors
from modelport.engine.cache import Cache, Outputs, fingerprint, size_of


def x(value: float) -> Outputs:
    return {"x": np.array([value], dtype=np.float32)}


def later(seconds: float = 5) -> float:
    return time.monotonic() + seconds


class Model:
    """Doubles, slowly; counts its runs."""

    def __init__(self, delay_s: float = 0.01, error: Exception | None = None) -> None:
        self.runs = 0
        self.delay_s = delay_s
        self.error = error

    def of(self, value: float) -> object:
        async def run() -> Outputs:
            self.runs += 1
            await asyncio.sleep(self.delay_s)
            if self.error is not None:
                raise self.error
            return x(2 * value)

        return run


async def ask(cache: Cache, model: Model, value: float, seconds: float = 5) -> float:
    return float((await cache.through(x(value), later(seconds), model.of(value)))["x"][0])  # type: ignore[arg-type]


async def test_equal_requests_at_the_same_moment_share_one_run() -> None:
    cache, model = Cache(1 << 20), Model()
    assert await asyncio.gather(*(ask(cache, model, 3) for _ in range(50))) == [6.0] * 50
    assert (model.runs, cache.hits) == (1, 49)
    assert await ask(cache, model, 3) == 6.0
    assert await ask(cache, model, 4) == 8.0
    assert (model.runs, cache.hits) == (2, 50)


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    cache, model = Cache(1 << 20), Model(error=errors.RunFailed("no"))
    found = await asyncio.gather(*(ask(cache, model, 3) for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in found] == [errors.RunFailed] * 5
    assert model.runs == 1
    model.error = None
    assert await ask(cache, model, 3) == 6.0


async def test_who_waits_runs_it_when_the_first_gives_up() -> None:
    cache, model = Cache(1 << 20), Model(delay_s=0.1)
    first = asyncio.create_task(ask(cache, model, 3))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(ask(cache, model, 3))
    await asyncio.sleep(0.01)
    first.cancel()
    assert await second == 6.0
    assert model.runs == 2


async def test_who_waits_keeps_its_own_deadline() -> None:
    cache, model = Cache(1 << 20), Model(delay_s=0.5)
    first = asyncio.create_task(ask(cache, model, 3))
    await asyncio.sleep(0.01)
    with pytest.raises(errors.DeadlineExceeded):
        await ask(cache, model, 3, seconds=0.05)
    assert await first == 6.0


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(0, 5000))
def test_bytes_stay_within_the_bound(values: list[int], bound: int) -> None:
    async def run() -> None:
        cache, model = Cache(bound), Model(delay_s=0)
        for value in values:
            assert await ask(cache, model, value) == 2 * value
            assert cache.bytes <= bound
            assert cache.bytes == sum(300 + size_of(kept) for kept in cache._kept.values())

    asyncio.run(run())


async def test_what_is_kept_cannot_be_changed_and_keeps_no_batch() -> None:
    cache = Cache(1 << 20)
    whole = np.arange(1_000_000, dtype=np.float32)

    async def run() -> Outputs:
        return {"x": whole[:4]}

    await cache.through(x(1), later(), run)
    kept = (await cache.through(x(1), later(), run))["x"]
    assert kept.base is None
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 9
    assert cache.bytes < 1000


@given(
    arrays.arrays(st.sampled_from([np.float32, np.int64, np.bool_]), arrays.array_shapes(max_dims=3, max_side=3)),
    arrays.arrays(st.sampled_from([np.float32, np.int64, np.bool_]), arrays.array_shapes(max_dims=3, max_side=3)),
)
def test_a_fingerprint_tells_what_differs(a: np.ndarray, b: np.ndarray) -> None:
    same = a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    assert (fingerprint({"x": a}) == fingerprint({"x": b})) == same
    assert fingerprint({"x": a}) != fingerprint({"y": a})
    assert fingerprint({"x": a, "y": b}) == fingerprint({"y": b, "x": a})
