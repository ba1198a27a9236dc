"""Replicas are told which adapters they hold: one goes with the last text that wants it."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from modelport import errors
from modelport.engine.adapting import tell
from modelport.engine.dataplane import DataPlane
from modelport.engine.generation import Asked, Sampling
from modelport.engine.requests import InferRequest
from modelport.engine.routing import RoutingTable
from tests.engine.language.fake import answer_to, letters
from tests.engine.replicas import engine


async def test_an_adapter_goes_with_the_last_text() -> None:
    async with engine(letters(pause_s=0.01)) as (_, here):
        socket, plane = here.route.replicas[0].socket, DataPlane()
        told = await tell(socket, {"a": Path("one"), "b": Path("two")})
        assert (told.language["adapters"], told.refused) == (["a", "b"], {})
        await plane.update(RoutingTable(1, (msgspec.structs.replace(here.route, name="pirate", adapter="a"),)))
        asked = Asked(Sampling(max_tokens=60, temperature=0), prompt="ahoy")
        text = ""
        async with aclosing(plane.generate(plane.find("default", "pirate"), asked, InferRequest({}))) as parts:
            async for part in parts:
                if not text:
                    told = await tell(socket, {})
                    assert told.language["adapters"] == ["a"]  # b has gone at once
                text += part.text
        assert text == answer_to("ahoy", 60)
        assert (await tell(socket, {})).language["adapters"] == []
        with pytest.raises(errors.InvalidInput, match="no adapter"):
            async with aclosing(plane.generate(plane.find("default", "pirate"), asked, InferRequest({}))) as parts:
                async for _part in parts:
                    pass
        plane.close()
