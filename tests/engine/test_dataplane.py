"""The data plane over real replicas: whose row is whose, what waits, what is retried, what is refused."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import time

import msgspec
import numpy as np
import pytest

from modelport import errors
from modelport.engine.requests import InferRequest
from modelport.engine.routing import ReplicaAddress, RoutingTable
from tests import onnx_models
from tests.engine.replicas import engine


def one(value: float, rows: int = 1) -> InferRequest:
    return InferRequest({"input": np.full((rows, 3), value, np.float32)})


@pytest.mark.parametrize("seed", range(3))
async def test_every_row_goes_back_to_whom_it_belongs(seed: int) -> None:
    """Random arrivals and sizes, with replicas killed in between: each answer is the caller's own input."""
    rng = random.Random(seed)
    async with engine(onnx_models.identity(), replicas=2, max_batch=8) as (made, endpoint):

        async def call(number: int) -> None:
            await asyncio.sleep(rng.random() * 0.4)
            rows = rng.choice([0, 1, 1, 2, 3, 8, 20])
            x = np.full((rows, 3), number, np.float32) + np.arange(rows, dtype=np.float32)[:, None] / 64
            result = await made.plane.infer(endpoint, InferRequest({"input": x}))
            np.testing.assert_array_equal(result.outputs["output"], x)

        async def killer() -> None:
            await asyncio.sleep(0.15)
            made.kill("1")

        await asyncio.gather(killer(), *(call(number) for number in range(300)))
        assert max(endpoint.stats.batch_sizes) <= 8
        assert any(size > 1 for size in endpoint.stats.batch_sizes)


async def test_one_bad_request_in_a_batch_fails_alone() -> None:
    async with engine(onnx_models.fails_on(13), replicas=1, batching=True) as (made, endpoint):
        (spec,) = endpoint.route.signature.inputs

        def request(value: int) -> InferRequest:
            shape = [1 if dim < 0 else dim for dim in spec.shape]
            from modelport.tensors import dtype_of

            return InferRequest({spec.name: np.full(shape, value, dtype_of(spec.datatype))})

        results = await asyncio.gather(
            *(made.plane.infer(endpoint, request(13 if n == 5 else n % 3)) for n in range(12)), return_exceptions=True
        )
        failed = [n for n, result in enumerate(results) if isinstance(result, BaseException)]
        assert failed == [5]
        assert isinstance(results[5], errors.ModelRejectedInput)


async def test_a_poisonous_request_takes_no_neighbour_with_it() -> None:
    async with engine(onnx_models.crasher(), replicas=3) as (made, endpoint):
        (spec,) = endpoint.route.signature.inputs
        from modelport.tensors import dtype_of

        shape = [1 if dim < 0 else dim for dim in spec.shape]
        good = np.zeros(shape, dtype_of(spec.datatype))
        bad = np.full(shape, onnx_models.CRASHING_INPUT, dtype_of(spec.datatype))

        async def reaper() -> None:
            while True:
                for name, process in list(made.processes.items()):
                    if process.poll() is not None:
                        made.processes.pop(name)
                        made.fleet.exited(name, process.returncode)  # type: ignore[attr-defined]
                await asyncio.sleep(0.02)

        reaping = asyncio.create_task(reaper())
        calls = [made.plane.infer(endpoint, InferRequest({spec.name: bad if n == 7 else good})) for n in range(20)]
        gathered = asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0.5)
        await made.add(2)
        await made.publish()
        results = await gathered
        reaping.cancel()
        failed = [n for n, result in enumerate(results) if isinstance(result, BaseException)]
        assert failed == [7]
        assert isinstance(results[7], errors.RunFailed)
        with pytest.raises(errors.RunFailed, match="not run again"):
            await made.plane.infer(endpoint, InferRequest({spec.name: bad}))


async def test_deadlines_are_kept_and_expired_work_is_never_run() -> None:
    async with engine(onnx_models.slow(150), replicas=1) as (made, endpoint):
        (spec,) = endpoint.route.signature.inputs
        x = np.ones([1 if dim < 0 else dim for dim in spec.shape], np.float32)

        def request(seconds: float) -> InferRequest:
            return InferRequest({spec.name: x}, deadline=time.monotonic() + seconds)

        first = asyncio.ensure_future(made.plane.infer(endpoint, request(30)))
        await asyncio.sleep(0.02)
        runs = endpoint.stats.executions
        with pytest.raises(errors.DeadlineExceeded, match="queued"):
            await made.plane.infer(endpoint, request(0.05))
        await first
        with pytest.raises(errors.DeadlineExceeded):
            await made.plane.infer(endpoint, request(-0.001))  # although the replica is idle
        await asyncio.sleep(0.3)
        assert endpoint.stats.executions == runs + 1


async def test_overload_is_refused_early() -> None:
    async with engine(onnx_models.slow(20), replicas=1) as (made, endpoint):
        (spec,) = endpoint.route.signature.inputs
        x = np.ones([1 if dim < 0 else dim for dim in spec.shape], np.float32)
        calls = [made.plane.infer(endpoint, InferRequest({spec.name: x})) for _ in range(3000)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(1.5)
        refused = [task for task in tasks if task.done() and isinstance(task.exception(), errors.Overloaded)]
        assert len(refused) > 1000
        for task in tasks:
            task.cancel()


async def test_who_asks_for_little_goes_ahead_of_a_floods_frame_at_the_replica() -> None:
    async with engine(onnx_models.identity(), max_batch=1) as (made, endpoint):
        answered: list[str] = []

        async def call(caller: str) -> None:
            await made.plane.infer(endpoint, InferRequest({"input": np.ones((1, 3), np.float32)}, caller=caller))
            answered.append(caller)

        async def everybody() -> None:
            flood = [asyncio.ensure_future(call("flood")) for _ in range(20)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # the first of them is sent
            await asyncio.gather(*flood, call("other"))

        lane = endpoint.dispatcher._lane
        (process,) = made.processes.values()
        process.send_signal(signal.SIGSTOP)  # so that the flood is there when the other comes
        calls = asyncio.ensure_future(everybody())
        await made.until(lambda: lane._opening)
        process.send_signal(signal.SIGCONT)
        await calls
        await made.until(lambda: len(lane.idle) == 2)
        process.send_signal(signal.SIGSTOP)
        answered.clear()
        calls = asyncio.ensure_future(everybody())
        await made.until(lambda: len(lane.idle) == 1)
        assert endpoint.dispatcher.in_flight - endpoint.dispatcher.waiting == 2
        process.send_signal(signal.SIGCONT)
        await calls
        assert answered[0] == "other", answered
        await made.until(lambda: len(lane.idle) == 2)
        made.kill("1")
        await made.add(1)
        await made.publish(max_batch=1)
        await made.until(lambda: not lane.links)
        await everybody()


async def test_another_version_answers_new_requests_and_the_old_one_its_own() -> None:
    async with engine(onnx_models.identity(), replicas=1) as (made, endpoint):
        calls = [asyncio.ensure_future(made.plane.infer(endpoint, one(n))) for n in range(50)]
        await made.add(1)
        made.fleet.replicas.pop("1")
        await made.publish(alias="champion")
        results = await asyncio.gather(*calls)
        assert [float(result.outputs["output"][0, 0]) for result in results] == list(range(50))
        assert (await made.plane.infer(endpoint, one(3))).outputs["output"][0, 0] == 3


async def test_what_waits_for_a_version_without_replicas_moves_on_with_an_update() -> None:
    async with engine(onnx_models.identity(), replicas=1) as (made, endpoint):
        route = endpoint.route
        lost = msgspec.structs.replace(route, replicas=(), recovering=True)
        await made.plane.update(RoutingTable(10, (lost,)))
        waiting = asyncio.ensure_future(made.plane.infer(endpoint, one(7)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await made.plane.update(RoutingTable(11, (msgspec.structs.replace(route, version=2),)))
        result = await asyncio.wait_for(waiting, 5)
        assert result.outputs["output"][0, 0] == 7


async def test_a_table_is_not_held_up_by_a_replica_that_does_not_greet() -> None:
    async with engine(onnx_models.identity(), replicas=1) as (made, endpoint):
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind("silent.sock")
            silent.listen()
            both = (*endpoint.route.replicas, ReplicaAddress("silent", "silent.sock"))
            began = time.monotonic()
            await made.plane.update(RoutingTable(10, (msgspec.structs.replace(endpoint.route, replicas=both),)))
            assert time.monotonic() - began < 5
            assert (await made.plane.infer(endpoint, one(7))).outputs["output"][0, 0] == 7
            await made.plane.update(RoutingTable(11, (endpoint.route,)))


async def test_a_stream_of_a_model_that_gives_one_part() -> None:
    async with engine(onnx_models.identity()) as (made, endpoint):
        parts = [part.outputs["output"] async for part in made.plane.stream(endpoint, one(5))]
        assert len(parts) == 1
        assert endpoint.stats.success == 1


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "'input' is missing"),
        ({"input": np.zeros((1, 4), np.float32)}, r"shape \[1, 4\] given, the model takes \[-1, 3\]"),
        ({"input": np.zeros((1, 3), np.float64)}, "datatype FP64 given, the model takes FP32"),
        ({"input": np.zeros((1, 3), np.float32), "other": np.zeros(1)}, "'other' is unknown"),
    ],
)
async def test_what_does_not_fit_the_signature_is_named(inputs: dict[str, np.ndarray], words: str) -> None:
    from modelport.tensors import Signature, TensorSpec, check_inputs

    spec = TensorSpec("input", "FP32", (-1, 3))
    with pytest.raises(errors.InvalidInput, match=words):
        check_inputs(Signature((spec,), (spec,)), inputs)
