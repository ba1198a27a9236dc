"""Where every protocol ends: find the endpoint, check the tensors, dispatch, give the answer back.

Knows tensors, routes and deadlines; knows no protocol and no server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Container
from contextlib import aclosing
from typing import Any

import msgspec
import numpy as np

from modelport import errors
from modelport.engine import cascade, fallback, frames, texts
from modelport.engine.allowance import Allowances
from modelport.engine.cache import Cache, size_of
from modelport.engine.dispatcher import Dispatcher, Moved
from modelport.engine.generation import Asked, Part, repeatable, to_tensors
from modelport.engine.requests import NORMAL, InferRequest, InferResult
from modelport.engine.routing import Route, RoutingTable
from modelport.engine.stats import EndpointStats
from modelport.tensors import Array, check_inputs


class Endpoint:
    """What callers address, as this gateway sees it now."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.stats = EndpointStats()
        self.dispatcher = Dispatcher(route, self.stats)
        self.cache = Cache(route.cache_bytes) if route.cache_bytes else None

    @property
    def ready(self) -> bool:
        """Whether an inference, real or proof, succeeded within 10 s, or the endpoint sleeps on purpose."""
        return self.route.asleep or self.dispatcher.ready

    async def update(self, route: Route) -> None:
        """Take a new route; another version gets a queue of its own, so that nobody's request changes version."""
        old = self.dispatcher
        if _identity(route) == _identity(old.route):
            await old.update(route)
            if route.cache_bytes != self.route.cache_bytes:
                self.cache = Cache(route.cache_bytes) if route.cache_bytes else None
            self.route = route
            return
        fresh = Dispatcher(route, self.stats)
        await fresh.update(route)
        self.dispatcher, self.route = fresh, route
        self.cache = Cache(route.cache_bytes) if route.cache_bytes else None
        old.retire()


class DataPlane:
    """The routing table at work."""

    def __init__(self, default_timeout_s: float = 60) -> None:
        self.default_timeout_s = default_timeout_s
        """Deadline of a request that brings none, in seconds (the setting ``http.timeout_s``)."""
        self.number = 0
        """Of the table that is acted on."""
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        self.allowances = Allowances()

    @property
    def ready(self) -> bool:
        """Whether every endpoint of every project that is not stopped is ready; what health checks ask."""
        return self.number > 0 and all(
            endpoint.ready for endpoint in self._endpoints.values() if not endpoint.route.stopped
        )

    def find(
        self, project: str, name: str, version: str | None = None, alias: str | None = None,
        only: Container[str] | None = None,
    ) -> Endpoint:  # fmt: skip
        """The endpoint of that name; raises NotFound, also when it serves another version or alias, and when the caller
        may call ``only`` others."""
        endpoint = self._endpoints.get((project, name))
        if endpoint is None or (only is not None and name not in only):
            raise errors.NotFound(
                f"no endpoint {_shown(name)} here; `modelport deployments list` shows those there are"
            )
        route = endpoint.route
        if version and version != str(route.version):
            raise errors.NotFound(f"endpoint {name!r} serves version {route.version}, not {_shown(version)}")
        if alias and alias != route.alias:
            raise errors.NotFound(f"endpoint {name!r} was not deployed by the alias {_shown(alias)}")
        return endpoint

    def has(self, project: str, name: str) -> bool:
        """Whether the project has an endpoint of that name."""
        return (project, name) in self._endpoints

    def endpoints(self, project: str, only: Container[str] | None = None) -> list[Endpoint]:
        """All endpoints of a project that a caller may call and that are not stopped, by name."""
        return [
            found
            for key, found in sorted(self._endpoints.items(), key=lambda item: item[0])
            if key[0] == project and (only is None or key[1] in only) and not found.route.stopped
        ]

    def all_endpoints(self) -> list[Endpoint]:
        """Of every project: for figures."""
        return list(self._endpoints.values())

    async def infer(self, endpoint: Endpoint, request: InferRequest) -> InferResult:
        """Check against the signature, queue, batch, run, retry.

        Raises InvalidInput, ModelRejectedInput, Overloaded, DeadlineExceeded, RunFailed, Unavailable.
        """
        self.allowances.check(request.caller, endpoint.route.name)
        if endpoint.route.language is not None:
            return await texts.infer(self, endpoint, request)
        if endpoint.route.fallback:
            return await fallback.infer(self, endpoint, request)
        return await self.infer_here(endpoint, request)

    async def infer_here(self, endpoint: Endpoint, request: InferRequest) -> InferResult:
        """By this endpoint and no other."""
        while True:
            check_inputs(endpoint.route.signature, request.inputs)
            _check_outputs(endpoint.route, request.outputs)
            try:
                if endpoint.cache is None:
                    result = await _run(endpoint, request)
                else:
                    result = await _run_or_recall(endpoint, endpoint.cache, request)
                break
            except Moved:  # perhaps more than once, while one update follows another
                endpoint = self.find(endpoint.route.project, endpoint.route.name)
        if (counted := result.outputs.pop(frames.COUNTED, None)) is not None:
            result.tokens = int(counted.sum())
            endpoint.stats.of(request.caller).prompt_tokens += result.tokens
        if request.outputs is not None:
            result.outputs = {name: result.outputs[name] for name in request.outputs}
        return result

    async def stream(self, endpoint: Endpoint, request: InferRequest) -> AsyncGenerator[InferResult]:
        """The same for an answer in parts; a model that gives none gives one. Close it to cancel the rest."""
        self.allowances.check(request.caller, endpoint.route.name)
        if endpoint.route.language is not None:
            async with aclosing(texts.stream(self, endpoint, request)) as written:
                async for part in written:
                    yield part
            return
        if not endpoint.route.streams:
            yield await self.infer(endpoint, request)
            return
        if endpoint.route.fallback:
            parts = fallback.stream(self, endpoint, request)
        else:
            parts = self.stream_here(endpoint, request)
        async with aclosing(parts):
            async for part in parts:
                yield part

    async def stream_here(self, endpoint: Endpoint, request: InferRequest) -> AsyncGenerator[InferResult]:
        """By this endpoint and no other."""
        if not endpoint.route.streams:
            yield await self.infer_here(endpoint, request)
            return
        try:
            async with aclosing(self._stream(endpoint, request)) as parts:
                async for part in parts:
                    yield part
        except Moved:  # said of what waits: nothing has been given yet
            now = self.find(endpoint.route.project, endpoint.route.name)
            async with aclosing(self.stream_here(now, request)) as parts:
                async for part in parts:
                    yield part

    async def _stream(self, endpoint: Endpoint, request: InferRequest) -> AsyncGenerator[InferResult]:
        check_inputs(endpoint.route.signature, request.inputs)
        _check_outputs(endpoint.route, request.outputs)
        dispatcher = endpoint.dispatcher
        pending = dispatcher.submit(request, request.inputs, 1, None, stream=True)
        assert pending.parts is not None
        try:
            while (part := await pending.parts.get()) is not None:
                if isinstance(part, errors.ModelportError):
                    raise part
                pending.unread -= size_of(part.outputs)
                if request.outputs is not None:
                    part.outputs = {name: a for name, a in part.outputs.items() if name in request.outputs}
                yield part
        finally:
            if not pending.future.done():
                dispatcher.cancel(pending)

    def generate(self, endpoint: Endpoint, asked: Asked, request: InferRequest) -> AsyncGenerator[Part]:
        """What a language model writes, part after part; of ``request`` the deadline, the caller and the id count.
        Close it to cancel the rest. Raises as ``infer``, and Overloaded when the key has spent its tokens."""
        route = endpoint.route
        self.allowances.check(request.caller, route.name)
        if asked.only is not None:  # nothing is written: it is about this very model, and costs nothing
            return self._generate(endpoint, asked, request)
        if route.cascade is not None:
            return cascade.generate(self, endpoint, route.cascade, asked, request)
        if route.fallback:
            return fallback.generate(self, endpoint, asked, request)
        return self.generate_here(endpoint, asked, request)

    def generate_here(self, endpoint: Endpoint, asked: Asked, request: InferRequest) -> AsyncGenerator[Part]:
        """By this endpoint and no other."""
        name = endpoint.route.name
        asked = self.allowances.capped(request.caller, asked)
        parts = self._generate(endpoint, asked, request)
        limit = self.allowances.limit(request.caller)
        return parts if limit is None else self.allowances.metered(parts, asked, name, limit, request)

    async def _generate(self, endpoint: Endpoint, asked: Asked, request: InferRequest) -> AsyncGenerator[Part]:
        asked = repeatable(asked)
        if request.priority > NORMAL:
            asked = msgspec.structs.replace(asked, background=True)
        while True:
            pending = None
            try:
                dispatcher = endpoint.dispatcher
                asked = msgspec.structs.replace(asked, adapter=endpoint.route.adapter)
                pending = dispatcher.submit(request, to_tensors(asked), 1, None, stream=True, asked=asked)
                parts = pending.parts
                assert parts is not None
                while (part := await parts.get()) is not None:
                    if isinstance(part, errors.ModelportError):
                        raise part
                    pending.taken()
                    yield part
                return
            except Moved:  # said of what waits: nothing has been given yet
                endpoint = self.find(endpoint.route.project, endpoint.route.name)
            finally:
                if pending is not None and not pending.future.done():
                    dispatcher.cancel(pending)

    async def update(self, table: RoutingTable) -> None:
        """Act on a new table; returns when requests go by it. An older table than the present one is ignored."""
        if table.number <= self.number:
            return
        self.allowances.update(table)
        wanted = {(route.project, route.name): route for route in table.routes}
        changes = []
        for key, route in wanted.items():
            endpoint = self._endpoints.get(key)
            if endpoint is None:
                endpoint = Endpoint(route)
                changes.append(_introduce(self._endpoints, key, endpoint))
            elif endpoint.route != route:
                changes.append(endpoint.update(route))
        await asyncio.gather(*changes)
        for key in [key for key in self._endpoints if key not in wanted]:
            self._endpoints.pop(key).dispatcher.retire()
        self.number = table.number

    def close(self) -> None:
        """Hang up on every replica."""
        for endpoint in self._endpoints.values():
            endpoint.dispatcher.close()


def _identity(route: Route) -> tuple[Any, ...]:
    """What answers: a request is not moved from one to another."""
    return route.model, route.version, route.signature, route.adapter


async def _introduce(endpoints: dict[tuple[str, str], Endpoint], key: tuple[str, str], endpoint: Endpoint) -> None:
    await endpoint.dispatcher.update(endpoint.route)
    endpoints[key] = endpoint


def _run(endpoint: Endpoint, request: InferRequest) -> Awaitable[InferResult]:
    route, dispatcher, inputs = endpoint.route, endpoint.dispatcher, request.inputs
    if not route.batching:
        return dispatcher.submit(request, inputs, 1, None).future
    rows = next(iter(inputs.values())).shape[0]
    if rows <= route.max_batch:
        shared = rows and not request.alone
        return dispatcher.submit(request, inputs, rows, batch_key(inputs) if shared else None).future
    return _infer_in_parts(dispatcher, request, rows, route.max_batch)


async def _run_or_recall(endpoint: Endpoint, cache: Cache, request: InferRequest) -> InferResult:
    hits, ran = cache.hits, InferResult({})

    async def run() -> dict[str, Array]:
        nonlocal ran
        ran = await _run(endpoint, request)
        return ran.outputs

    outputs = await cache.through(request.inputs, request.deadline, run)
    endpoint.stats.recalled += cache.hits - hits
    return InferResult(dict(outputs), ran.queue_ns, ran.compute_ns, ran.run_rows, ran.replica)


async def _infer_in_parts(dispatcher: Dispatcher, request: InferRequest, rows: int, size: int) -> InferResult:
    """More rows than one run may take: several runs, put together again."""
    parts = []
    try:
        for start in range(0, rows, size):
            inputs = {name: array[start : start + size] for name, array in request.inputs.items()}
            parts.append(dispatcher.submit(request, inputs, min(size, rows - start), batch_key(inputs)).future)
        results = await asyncio.gather(*parts)
    except BaseException:
        for part in parts:
            part.cancel()
        raise
    names = results[0].outputs
    outputs = {name: np.concatenate([result.outputs[name] for result in results]) for name in names}
    queue_ns, compute_ns = max(r.queue_ns for r in results), sum(r.compute_ns for r in results)
    return InferResult(outputs, queue_ns, compute_ns, max(r.run_rows for r in results), results[0].replica)


def batch_key(inputs: dict[str, Array]) -> object:
    """Requests with equal keys can be stacked: equal shapes but for the first dimension."""
    if len(inputs) == 1:
        return next(iter(inputs.values())).shape[1:]
    return tuple((name, inputs[name].shape[1:]) for name in sorted(inputs))


def _check_outputs(route: Route, wanted: tuple[str, ...] | None) -> None:
    if wanted is None:
        return
    known = [spec.name for spec in route.signature.outputs]
    for name in wanted:
        if name not in known:
            raise errors.InvalidInput(f"output {_shown(name)} is unknown; the model gives {', '.join(known)}")


def _shown(name: str) -> str:
    return repr(name[:80]).encode("ascii", "backslashreplace").decode()
