"""The gate: never more than there is, strictly by rank, nothing lost when waiters leave."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.control.jobs.gate import Capacity, Gate
from modelport.errors import InvalidInput
from modelport.schemas.jobs import Resources, ResourcesAsked

CAPACITY = Capacity(cores=2, memory_mb=1000, gpus=2)


def needs(cores: float = 0, memory: int = 0, gpus: int = 0) -> Resources:
    return Resources(cores=cores, memory_mb=memory, gpus=gpus)


jobs = st.lists(
    st.tuples(
        st.integers(-2, 2), st.sampled_from([0, 0.1, 0.5, 1, 1.5, 2, 9]), st.integers(0, 1200), st.integers(0, 3)
    ),
    max_size=30,
)


@given(jobs, st.integers(0, 1 << 32))
def test_the_gate_keeps_its_promises(wanted: list[tuple[int, float, int, int]], seed: int) -> None:
    rng = random.Random(seed)

    async def run() -> None:
        gate = Gate(CAPACITY)
        held: dict[int, Resources] = {}
        gpus_held: list[int] = []
        done: list[int] = []

        async def job(number: int, priority: int, asked: Resources) -> None:
            async with gate.room(f"{number:05}", priority, asked) as gpus:
                held[number] = gate._at_most(asked)
                gpus_held.extend(gpus)
                assert len(gpus) == held[number].gpus and len(set(gpus_held)) == len(gpus_held)
                assert sum(one.cores for one in held.values()) <= CAPACITY.cores + 1e-6
                assert sum(one.memory_mb for one in held.values()) <= CAPACITY.memory_mb
                try:
                    for _ in range(rng.randrange(4)):
                        await asyncio.sleep(0)
                finally:
                    for gpu in gpus:
                        gpus_held.remove(gpu)
                    del held[number]
            done.append(number)

        tasks = [
            asyncio.create_task(job(number, priority, needs(cores, memory, gpus)))
            for number, (priority, cores, memory, gpus) in enumerate(wanted)
        ]
        left = set()
        for number, task in enumerate(tasks):
            await asyncio.sleep(0)
            if rng.random() < 0.2:
                task.cancel()
                left.add(number)
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        assert set(done) | left == set(range(len(wanted)))
        async with asyncio.timeout(5), gate.room("zz", 0, needs(2, 1000, 2)) as gpus:
            assert gpus == (0, 1), "everything was given back"

    asyncio.run(run())


async def test_the_first_in_line_goes_first() -> None:
    gate, order = Gate(CAPACITY), []

    async def job(name: str, priority: int, cores: float) -> None:
        async with gate.room(name, priority, needs(cores)):
            order.append(name)
            await asyncio.sleep(0.01)

    wanted = [("a", 0, 1.5), ("b", 0, 2), ("c", 0, 0.1), ("d", 1, 2)]
    await asyncio.gather(*(job(*one) for one in wanted))
    assert order == ["a", "d", "b", "c"]


async def test_who_was_submitted_first_goes_first_though_it_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, order = Gate(CAPACITY), []

    async def job(name: str, priority: int, late_s: float) -> None:
        gate.expect(name, priority)
        await asyncio.sleep(late_s)
        async with gate.room(name, priority, needs(2)):
            order.append(name)
            await asyncio.sleep(0.01)

    await asyncio.gather(job("a", 0, 0.05), job("b", 0, 0), job("c", 1, 0.02))
    assert order == ["c", "a", "b"]
    order.clear()
    gate.expect("1", 0)
    waiting = asyncio.create_task(job("2", 0, 0))
    await asyncio.sleep(0.02)
    assert order == [] and not waiting.done()
    gate.expect_no_more("1")  # cancelled, or the server never heard of it again
    await asyncio.wait_for(waiting, 1)
    monkeypatch.setattr("modelport.control.jobs.gate._PATIENCE_S", 0.05)
    gate.expect("3", 0)
    await asyncio.wait_for(job("4", 0, 0), 1)
    assert order == ["2", "4"]


def test_what_a_job_gets() -> None:
    assert CAPACITY.grant(ResourcesAsked()) == needs(1, 500)
    assert CAPACITY.grant(ResourcesAsked(), least_mb=700) == needs(1, 700)
    with pytest.raises(InvalidInput, match="100 asked, a job of this kind needs 700 to begin"):
        CAPACITY.grant(ResourcesAsked(memory_mb=100), least_mb=700)
    assert CAPACITY.grant(ResourcesAsked(cores=2)) == needs(2, 1000)
    assert CAPACITY.grant(ResourcesAsked(cores=0, memory_mb=100, gpus=2)) == needs(0, 100, 2)
    assert Capacity(cores=0.5, memory_mb=100, gpus=0).grant(ResourcesAsked()) == needs(0.5, 100)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"cores": 3}, "resources.cores: 3 asked, jobs have 2 here; ask for less, or have the operator raise "
                       "MODELPORT_JOBS_CORES"),
        ({"memory_mb": 2000}, "MODELPORT_JOBS_MEMORY_MB"),
        ({"gpus": 3}, "resources.gpus: 3 asked, jobs have 2 here; ask for less, or have the operator raise what"),
    ],
)  # fmt: skip
def test_more_than_there_is_is_refused(asked: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidInput, match=r"resources\.") as caught:
        CAPACITY.grant(ResourcesAsked(**asked))
    assert message in caught.value.message
