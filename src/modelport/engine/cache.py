"""Answers that were given before, by the hash of their inputs: bounded by bytes, the least recently used go first.

Equal requests at the same moment share one run. One cache belongs to one version in one gateway; a deployment asks for
it, because only its owner knows that equal inputs mean equal answers. Knows tensors; knows no endpoint and no replica.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import numpy as np

from modelport import errors
from modelport.tensors import Array, to_buffer

Outputs = dict[str, Array]
_ENTRY_BYTES = 300
"""What an entry takes beside its tensors, roughly."""


def fingerprint(inputs: Outputs) -> bytes:
    """16 bytes that stand for names, data types, shapes and values."""
    digest = hashlib.blake2b(digest_size=16)
    for name, array in sorted(inputs.items()):
        digest.update(f"{len(name)}\0{name}\0{array.dtype}{array.shape}".encode())
        digest.update(to_buffer(array))
    return digest.digest()


def size_of(tensors: Outputs) -> int:
    """Bytes that tensors take; for strings their text."""
    return sum(
        array.nbytes if array.dtype.kind != "O" else sum(map(len, array.reshape(-1).tolist()))
        for array in tensors.values()
    )


class Cache:
    """Outputs by fingerprint."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = 0
        """Requests that were answered without a run of their own."""
        self._kept: OrderedDict[bytes, Outputs] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Future[Outputs]] = {}

    async def through(self, inputs: Outputs, deadline: float, run: Callable[[], Awaitable[Outputs]]) -> Outputs:
        """The kept outputs, or those of an equal request that is under way, or what ``run`` gives.

        Raises what ``run`` raises; an equal request's failure to stay within its own deadline is not shared.
        """
        key = fingerprint(inputs)
        while True:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                self.hits += 1
                return found
            leader = self._under_way.get(key)
            if leader is None:
                return await self._lead(key, run)
            await asyncio.wait((leader,), timeout=max(0.0, deadline - time.monotonic()))
            if not leader.done():
                raise errors.DeadlineExceeded("the deadline passed while an equal request was running")
            if leader.cancelled() or isinstance(leader.exception(), errors.DeadlineExceeded):
                continue
            self.hits += 1
            return leader.result()

    async def _lead(self, key: bytes, run: Callable[[], Awaitable[Outputs]]) -> Outputs:
        future: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        self._under_way[key] = future
        try:
            outputs = await run()
        except asyncio.CancelledError:
            future.cancel()
            raise
        except Exception as error:
            future.set_exception(error)
            future.exception()  # seen: perhaps nobody else waits for it
            raise
        else:
            kept = {name: np.array(array) for name, array in outputs.items()}  # a view would keep its whole batch
            for array in kept.values():
                array.setflags(write=False)
            future.set_result(kept)
            self._keep(key, kept)
            return outputs
        finally:
            del self._under_way[key]

    def _keep(self, key: bytes, outputs: Outputs) -> None:
        size = _ENTRY_BYTES + size_of(outputs)
        if size > self.max_bytes:
            return
        self._kept[key] = outputs
        self.bytes += size
        while self.bytes > self.max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= _ENTRY_BYTES + size_of(oldest)
