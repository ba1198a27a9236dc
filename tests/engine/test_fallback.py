"""Endpoints that stand in for another, and cascades: real replicas, each model known by what it writes."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from modelport import errors
from modelport.api.messages import Caller, HttpRequest
from modelport.api.openai.reading import language_endpoint
from modelport.control import stand_ins
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.generation import Asked, Part, Sampling
from modelport.engine.requests import InferRequest
from modelport.engine.routing import Cascade, KeyEntry, Route, RoutingTable
from modelport.engine.texts import SIGNATURE
from modelport.schemas.deployments import DeploymentSpec
from modelport.schemas.models import Manifest
from modelport.tensors import Signature, TensorSpec
from tests.engine.language.fake import answer_to, letters
from tests.engine.replicas import Engine, engine
from tests.onnx_models import mlp


def route_of(endpoint: Endpoint, name: str, **changes: Any) -> Route:
    return msgspec.structs.replace(endpoint.route, name=name, **changes)


class Family:
    """Endpoints over the same replicas: big, small and tiny."""

    def __init__(self, made: Engine, endpoint: Endpoint) -> None:
        self.made, self._base, self._number = made, endpoint, 10
        self.routes = {name: route_of(endpoint, name) for name in ("big", "small", "tiny")}

    @property
    def plane(self) -> DataPlane:
        return self.made.plane

    async def be(self, name: str, **changes: Any) -> None:
        self.routes[name] = msgspec.structs.replace(self.routes[name], **changes)
        await self.publish()

    async def publish(self, *keys: KeyEntry) -> None:
        self._number += 1
        await self.plane.update(RoutingTable(self._number, tuple(self.routes.values()), keys))

    def find(self, name: str) -> Endpoint:
        return self.plane.find("default", name)

    async def ask(self, name: str, caller: str = "", **how: Any) -> tuple[str, InferRequest, list[Part]]:
        sampling = Sampling(**{"max_tokens": 20, "temperature": 0.0, **how})
        request, parts = InferRequest({}, caller=caller), []
        asked = Asked(sampling, prompt="hello", caller=caller)
        async with aclosing(self.plane.generate(self.find(name), asked, request)) as found:
            async for part in found:
                parts.append(part)
        return "".join(part.text for part in parts), request, parts


@asynccontextmanager
async def family(**how: Any) -> AsyncIterator[Family]:
    async with engine(letters(**how)) as (made, endpoint):
        found = Family(made, endpoint)
        await found.publish()
        yield found


async def _first_part(found: Family, asked: Asked) -> None:
    async with aclosing(found.plane.generate(found.find("big"), asked, InferRequest({}))) as parts:
        async for _ in parts:
            await asyncio.sleep(30)


def by(request: InferRequest) -> str | None:
    return None if request.answered_by is None else request.answered_by.name


async def test_the_next_answers_where_one_has_no_replica() -> None:
    async with family() as found:
        await found.be("small", replicas=())
        await found.be("big", replicas=(), fallback=("small", "gone", "tiny"))
        text, request, _ = await found.ask("big")
        assert text == answer_to("hello", 20)
        assert by(request) == "tiny"
        assert found.find("big").stats.passed_on == 1
        await found.be("big", recovering=True)
        assert by((await found.ask("big"))[1]) == "tiny", "nobody waits for a replica while another answers"
        await found.be("big", replicas=found.routes["tiny"].replicas, recovering=False)
        assert by((await found.ask("big"))[1]) == "big"


async def test_a_stopped_one_is_stood_in_for_and_not_listed() -> None:
    async with family() as found:
        await found.be("small", replicas=(), stopped=True)
        with pytest.raises(errors.Unavailable, match="'small' is stopped"):
            await found.ask("small")
        await found.be("big", replicas=(), stopped=True, fallback=("small", "tiny"))
        assert by((await found.ask("big"))[1]) == "tiny"
        assert [each.route.name for each in found.plane.endpoints("default")] == ["tiny"]
        assert found.plane.ready, "what is stopped on purpose is not missed"


async def test_a_stopped_one_of_which_nothing_is_known_any_more_is_stood_in_for() -> None:
    """Control has started again since: no replica has ever told it what the model is."""
    asked = HttpRequest("POST", "/", {}, {}, b"", Caller(), "id", False)
    async with family() as found:
        await found.be("big", replicas=(), stopped=True, platform="", language=None, fallback=("tiny",))
        assert language_endpoint(found.plane, asked, "big").route.name == "tiny"
        await found.be("big", fallback=())
        with pytest.raises(errors.Unavailable, match="'big' is stopped"):
            language_endpoint(found.plane, asked, "big")


async def test_where_nobody_answers_the_first_error_is_told() -> None:
    async with family() as found:
        await found.be("small", replicas=())
        await found.be("big", replicas=(), fallback=("small",))
        with pytest.raises(errors.Unavailable, match="'big'"):
            await found.ask("big")


async def test_a_callers_own_fault_is_nobody_elses() -> None:
    async with family(context=50) as found:
        await found.be("big", fallback=("small",))
        request = InferRequest({})
        with pytest.raises(errors.ContextExceeded):
            await anext(found.plane.generate(found.find("big"), Asked(prompt="x" * 60), request))
        assert found.find("big").stats.passed_on == 0
        with pytest.raises(errors.DeadlineExceeded):
            late = InferRequest({}, deadline=0)
            await anext(found.plane.generate(found.find("big"), Asked(prompt="x"), late))
        assert found.find("big").stats.passed_on == 0


async def test_an_overloaded_model_passes_on_and_a_begun_stream_does_not() -> None:
    """Two engines, so that one can be full while the other is not."""
    async with family(slots=1, pause_s=0.01) as found:
        await found.be("big", fallback=("small",))
        asked = Asked(Sampling(max_tokens=3000, temperature=0), prompt="x" * 800)
        queue = [asyncio.ensure_future(_first_part(found, asked)) for _ in range(200)]
        try:
            done, _ = await asyncio.wait(queue, timeout=20, return_when=asyncio.FIRST_EXCEPTION)
            refused = [task.exception() for task in done if task.exception() is not None]
            assert refused
            assert all(isinstance(error, errors.Overloaded) for error in refused), "both are full: the same replica"
            assert found.find("small").stats.failed, "the other was asked before anybody was refused"
        finally:
            for task in queue:
                task.cancel()
            await asyncio.gather(*queue, return_exceptions=True)


async def test_a_model_that_dies_in_the_middle_is_not_begun_again_elsewhere() -> None:
    async with family(pause_s=0.02) as found:
        await found.be("big", fallback=("small",))
        sampling = Sampling(max_tokens=200, temperature=1.0)
        given = 0
        with pytest.raises(errors.Unavailable):
            async with aclosing(
                found.plane.generate(found.find("big"), Asked(sampling, prompt="hello"), InferRequest({}))
            ) as parts:
                async for _ in parts:
                    given += 1
                    if given == 3:
                        found.made.kill("1")
                        await found.be("big", replicas=())
        assert given >= 3
        assert found.find("big").stats.passed_on == 0


async def test_keys_go_only_where_they_may_and_each_model_has_its_own_budget() -> None:
    async with family() as found:
        await found.be("big", fallback=("small", "tiny"))
        limited = KeyEntry("k", "x", "default", "caller", models=("big", "tiny"), tokens_per_minute=60)
        await found.publish(limited)
        answered = []
        for _ in range(5):
            try:
                answered.append(by((await found.ask("big", "k"))[1]))
            except errors.Overloaded as error:
                answered.append(f"429 {'big' in error.message}")
        assert answered == ["big", "big", "tiny", "tiny", "429 True"], "25 tokens each; never 'small'"
        await found.be("big", replicas=())
        await found.publish(KeyEntry("k", "x", "default", "caller", models=("big",)))
        with pytest.raises(errors.Unavailable):
            await found.ask("big", "k")


async def test_tensors_fall_back_where_signatures_are_equal() -> None:
    async with engine(mlp()) as (made, endpoint):
        found = Family(made, endpoint)
        spec = endpoint.route.signature.inputs[0]
        rows = np.ones([3 if size < 0 else size for size in spec.shape], np.float32)
        await found.be("big", replicas=(), fallback=("small",))
        request = InferRequest({spec.name: rows})
        result = await found.plane.infer(found.find("big"), request)
        assert by(request) == "small"
        same = await found.plane.infer(found.find("small"), InferRequest({spec.name: rows}))
        for name, value in same.outputs.items():
            np.testing.assert_array_equal(result.outputs[name], value)
        parts = [part async for part in found.plane.stream(found.find("big"), InferRequest({spec.name: rows}))]
        assert len(parts) == 1
        await found.be("small", signature=dataclasses.replace(endpoint.route.signature, outputs=()))
        with pytest.raises(errors.Unavailable):
            await found.plane.infer(found.find("big"), InferRequest({spec.name: rows}))


@pytest.mark.parametrize(
    ("tests", "kept"),
    [
        ({"mean_logprob": -0.6}, "small"), ({"mean_logprob": -0.4}, "big"),
        ({"min_logprob": -0.5}, "small"), ({"min_logprob": -0.49}, "big"),
        ({"agreement": 1.0, "samples": 2}, "big"), ({"valid_json": True}, "big"),
        ({"mean_logprob": -0.6, "valid_json": True}, "big"), ({"mean_logprob": -0.6, "min_logprob": -1.0}, "small"),
    ],
)  # fmt: skip
async def test_a_cascade_keeps_what_passes_every_test(tests: dict[str, Any], kept: str) -> None:
    """The engine's tokens all have the log-probability -0.5; it writes letters, and others for each seed."""
    async with family() as found:
        await found.be("big", cascade=Cascade("small", **tests))
        text, request, parts = await found.ask("big")
        assert by(request) == kept
        assert text == answer_to("hello", 20)
        assert parts[-1].finish == "length" and parts[0].prompt_tokens == 5
        assert not any(part.logprobs for part in parts), "nobody asked for them"
        stats = found.find("big").stats
        assert (stats.kept_small, stats.kept_large) == ((1, 0) if kept == "small" else (0, 1))
        _, _, parts = await found.ask("big", logprobs=0)
        assert all(part.logprobs for part in parts)


async def test_a_cascade_without_its_small_model_is_the_large_one() -> None:
    async with family() as found:
        await found.be("small", replicas=())
        await found.be("big", cascade=Cascade("small", mean_logprob=-1.0), fallback=("tiny",))
        assert by((await found.ask("big"))[1]) == "big"
        await found.be("big", replicas=())
        assert by((await found.ask("big"))[1]) == "tiny"
        await found.be("big", cascade=Cascade("gone", mean_logprob=-1.0))
        assert by((await found.ask("big"))[1]) == "tiny"


async def test_a_failed_test_ends_the_small_models_text_at_once() -> None:
    async with family(pause_s=0.01) as found:
        await found.be("big", cascade=Cascade("small", min_logprob=-0.1))
        await found.ask("big", max_tokens=40)
        async with asyncio.timeout(5):
            while found.find("small").dispatcher.in_flight:
                await asyncio.sleep(0.01)
        assert found.find("small").stats.success_ns < 0.3e9, "one token of 40"


def spec(*fallback: str, first: str | None = None) -> DeploymentSpec:
    cascade = {"first": first, "valid_json": True} if first else None
    return DeploymentSpec.model_validate({"fallback": list(fallback), "cascade": cascade})


@pytest.mark.parametrize(
    ("wished", "message"),
    [
        (spec("a"), "cannot stand in for itself"), (spec("nothing"), "no deployment 'nothing'"),
        (spec("b", "b"), "twice"), (spec("c"), "a -> c -> a is a circle"), (spec("d"), "a -> d -> c -> a"),
        (spec("b", first="d"), "circle"), (spec("tensors"), "does not take and give"),
        (spec(first="nothing"), "spec.cascade.first: there is no"),
    ],
)  # fmt: skip
def test_what_cannot_stand_in_is_refused_when_it_is_declared(wished: DeploymentSpec, message: str) -> None:
    known = {
        "b": (spec(), manifest()), "c": (spec("b", "a"), manifest()), "d": (spec(first="c"), manifest()),
        "tensors": (spec(), manifest(tensors=True)),
    }  # fmt: skip
    with pytest.raises(errors.InvalidInput, match=message):
        stand_ins.check("a", wished, manifest(), known)
    stand_ins.check("a", spec("b"), manifest(), known)
    with pytest.raises(errors.InvalidInput, match="is for language models"):
        stand_ins.check("a", spec(first="b"), manifest(tensors=True), known)


def test_adapters_stand_in_for_their_base_and_it_for_them() -> None:
    adapter = manifest(adapter=True)
    known = {"base": (spec(), manifest()), "other": (spec(), adapter), "tensors": (spec(), manifest(tensors=True))}
    stand_ins.check("pirate", spec("base", "other"), adapter, known)
    stand_ins.check("pirate", spec(first="base"), adapter, known)
    stand_ins.check("base", spec("other"), manifest(), known)
    stand_ins.check("base", spec(first="other"), manifest(), known)
    with pytest.raises(errors.InvalidInput, match="does not take and give"):
        stand_ins.check("pirate", spec("tensors"), adapter, known)
    with pytest.raises(errors.InvalidInput, match="does not take and give"):
        stand_ins.check("tensors", spec("other"), manifest(tensors=True), known)
    known["base"] = spec("pirate"), manifest()
    with pytest.raises(errors.InvalidInput, match="pirate -> base -> pirate is a circle"):
        stand_ins.check("pirate", spec("base"), adapter, known)


def manifest(tensors: bool = False, adapter: bool = False) -> Manifest:
    own = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 2)),))
    signature = Signature((), ()) if adapter else own if tensors else SIGNATURE
    return Manifest(
        model="m", version=1, format="gguf", runtime="openvino_genai", signature=signature, files=[], size=0,
        details={"task": "adapter"} if adapter else {}, digest="0" * 64, created_at=datetime.now(UTC), created_by="me",
    )  # fmt: skip
