"""Shared memory between a gateway and a replica: what is written on one side is read on the other, and only there."""

from __future__ import annotations

import asyncio
import os

import numpy as np
import pytest

from modelport.engine import frames
from modelport.engine.frames import HEAD, Item
from modelport.engine.requests import InferRequest
from modelport.engine.slab import Slab
from tests import onnx_models
from tests.engine.replicas import engine

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no memfd")


def test_each_side_reads_what_the_other_writes() -> None:
    made = Slab.create()
    assert made is not None
    gateway, fd = made
    replica = Slab.adopt(os.dup(fd))
    os.close(fd)
    assert replica is not None
    gateway.mine[:5], replica.mine[:5] = b"there", b"back!"
    assert bytes(replica.theirs[:5]) == b"there"
    assert bytes(gateway.theirs[:5]) == b"back!"


def test_memory_that_could_shrink_is_not_taken() -> None:
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 128 << 20)
    assert Slab.adopt(fd) is None


@pytest.mark.parametrize("count", [1, 3])
def test_large_tensors_lie_there_and_small_ones_do_not(count: int) -> None:
    slab = memoryview(bytearray(1 << 20))
    tensors = {f"x{i}": np.random.default_rng(i).random((7, 5001), dtype=np.float32) for i in range(count)}
    (raw,) = frames.encode(frames.RUN, [Item(1, 7, "id")], tensors, slab=slab)
    assert len(raw) < 500
    frame = frames.decode(raw[: HEAD.size], raw[HEAD.size :], slab)
    assert frame.in_slab
    for name, array in tensors.items():
        assert np.array_equal(frame.tensors[name], array)
    small = b"".join(frames.encode(frames.RUN, [], {"x": np.zeros(10)}, slab=slab))
    assert not frames.decode(small[: HEAD.size], small[HEAD.size :], slab).in_slab
    too_large = b"".join(frames.encode(frames.RUN, [], {"x": np.zeros(1 << 18)}, slab=slab))
    assert not frames.decode(too_large[: HEAD.size], too_large[HEAD.size :], slab).in_slab


def test_a_frame_that_points_where_nothing_is_shared_is_broken() -> None:
    slab = memoryview(bytearray(1 << 20))
    (raw,) = frames.encode(frames.RUN, [], {"x": np.zeros(1 << 16)}, slab=slab)
    for shared in (None, slab[:1000]):
        with pytest.raises(frames.BrokenFrame):
            frames.decode(raw[: HEAD.size], raw[HEAD.size :], shared)


async def test_large_requests_get_their_own_answers_and_survive_a_kill() -> None:
    async with engine(onnx_models.identity(), replicas=2, max_batch=40_000) as (made, endpoint):
        rng = np.random.default_rng(0)

        async def ask(rows: int) -> None:
            await asyncio.sleep(float(rng.random()))
            x = rng.random((rows, 3), dtype=np.float32)
            result = await made.plane.infer(endpoint, InferRequest({"input": x}))
            np.testing.assert_array_equal(result.outputs["output"], x)

        async def killer() -> None:
            await asyncio.sleep(0.5)
            made.kill("1")

        await asyncio.gather(killer(), *(ask(int(rows)) for rows in rng.integers(1, 40_000, 200)))
        assert max(endpoint.stats.batch_sizes) > 5461  # larger than what goes through the socket


async def test_a_replica_that_cannot_take_the_memory_is_served_through_the_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made_slabs = []

    def unsealed() -> tuple[Slab, int]:
        fd = os.memfd_create("x")
        os.ftruncate(fd, 128 << 20)
        made_slabs.append(Slab(fd, is_gateway=True))
        return made_slabs[-1], fd

    monkeypatch.setattr(Slab, "create", unsealed)
    async with engine(onnx_models.identity(), replicas=1, max_batch=40_000) as (made, endpoint):
        x = np.random.default_rng(0).random((30_000, 3), dtype=np.float32)
        result = await made.plane.infer(endpoint, InferRequest({"input": x}))
    np.testing.assert_array_equal(result.outputs["output"], x)
    assert made_slabs and not any(made_slabs[0].mine[:4096])
