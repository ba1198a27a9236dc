"""Language models' replicas with gateways' data planes: slots, fair turns, cancellation, deaths in mid-stream."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from modelport import errors
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.generation import Asked, Part, Sampling
from modelport.engine.requests import InferRequest
from modelport.engine.routing import RoutingTable
from tests.engine.language.fake import DEADLY, answer_to, letters
from tests.engine.replicas import engine


def asked(prompt: str, tokens: int = 10, **how: Any) -> Asked:
    return Asked(Sampling(max_tokens=tokens, **{"temperature": 0.0, **how}), prompt=prompt)


async def parts_of(plane: DataPlane, endpoint: Endpoint, what: Asked, caller: str = "") -> list[Part]:
    request = InferRequest({}, caller=caller)
    found = []
    async with aclosing(plane.generate(endpoint, _by(what, caller), request)) as parts:
        async for part in parts:
            found.append(part)
    return found


def _by(what: Asked, caller: str) -> Asked:
    return msgspec.structs.replace(what, caller=caller)


async def text_of(plane: DataPlane, endpoint: Endpoint, what: Asked, caller: str = "") -> str:
    return "".join(part.text for part in await parts_of(plane, endpoint, what, caller))


@pytest.mark.parametrize("seed", range(2))
async def test_every_text_is_its_own(seed: int) -> None:
    """Random arrivals of two gateways, some cancelled half-way."""
    rng = random.Random(seed)
    async with engine(letters(slots=5, pause_s=0.001), replicas=2) as (made, here):
        plane = DataPlane()
        await plane.update(RoutingTable(1, (here.route,)))
        there = plane.find("default", "model")

        async def call(number: int) -> None:
            await asyncio.sleep(rng.random())
            which = (made.plane, here) if number % 2 else (plane, there)
            tokens = rng.randint(1, 40)
            prompt = f"text {number} " * rng.randint(1, 20)
            if number % 5 == 0:
                async with aclosing(which[0].generate(which[1], asked(prompt, 500), InferRequest({}))) as parts:
                    async for _ in parts:
                        break
                return
            assert await text_of(*which, asked(prompt, tokens)) == answer_to(prompt, tokens)

        await asyncio.gather(*(call(number) for number in range(60)))
        plane.close()


async def test_the_last_part_tells_how_it_ended_and_the_first_how_long_the_prompt_was() -> None:
    async with engine(letters()) as (made, here):
        parts = await parts_of(made.plane, here, asked("abc", 4, logprobs=0))
        assert [part.finish for part in parts] == [None, None, None, "length"]
        assert parts[0].prompt_tokens == 3
        assert [part.logprobs for part in parts] == [(-0.5,)] * 4
        assert "".join(piece for part in parts for piece in part.pieces) == answer_to("abc", 4)


async def test_a_stop_text_ends_it_and_is_not_given() -> None:
    whole = answer_to("abc", 60)
    stop = whole[20:23]
    first = whole.index(stop)
    async with engine(letters()) as (made, here):
        parts = await parts_of(made.plane, here, asked("abc", 60, stop=(stop, "never")))
        assert "".join(part.text for part in parts) == whole[:first]
        assert (parts[-1].finish, parts[-1].stopped_by) == ("stop", stop)


async def test_who_goes_away_leaves_the_slot() -> None:
    """The only slot is taken for thousands of steps; the next text is begun all the same."""
    async with engine(letters(slots=1, pause_s=0.005)) as (made, here):
        async with aclosing(made.plane.generate(here, asked("long", 4000), InferRequest({}))) as parts:
            await anext(parts)
            waiting = asyncio.ensure_future(text_of(made.plane, here, asked("next", 3)))
            await asyncio.sleep(0.05)
            assert not waiting.done()
        assert await asyncio.wait_for(waiting, 5) == answer_to("next", 3)
        assert here.dispatcher.in_flight == 0


async def test_a_greedy_text_goes_on_where_a_dead_replica_stopped() -> None:
    async with engine(letters(pause_s=0.01), replicas=2) as (made, here):
        calls = [asyncio.ensure_future(parts_of(made.plane, here, asked(f"tale {n}", 80))) for n in range(6)]
        await asyncio.sleep(0.4)
        made.kill("1")
        for number, parts in enumerate(await asyncio.gather(*calls)):
            assert "".join(part.text for part in parts) == answer_to(f"tale {number}", 80)
            assert sum(len(part.tokens) for part in parts) == 80
        assert here.stats.retried, "some were written by the one that died"
        counted = here.stats.of("")
        assert (counted.prompt_tokens, counted.tokens, counted.ended) == (6 * 6, 6 * 80, {"length": 6}), "each once"


async def test_a_text_by_chance_goes_on_with_its_seed_its_stop_text_and_its_probabilities() -> None:
    whole = answer_to("tale", 400, 7)
    stop = whole[150:156]
    assert whole.index(stop) == 150
    async with engine(letters(pause_s=0.01), replicas=2) as (made, here):
        how = {"temperature": 1.0, "seed": 7, "stop": (stop,), "logprobs": 0}
        calls = [asyncio.ensure_future(parts_of(made.plane, here, asked("tale", 400, **how))) for _ in range(4)]
        await asyncio.sleep(0.5)
        made.kill("1")
        for parts in await asyncio.gather(*calls):
            assert "".join(part.text for part in parts) == whole[:150]
            assert "".join(piece for part in parts for piece in part.pieces) == whole[:156]
            assert (parts[-1].finish, parts[-1].prompt_tokens) == ("stop", 4)
        assert here.stats.retried


async def test_without_a_seed_a_text_by_chance_goes_on_as_well() -> None:
    async with engine(letters(pause_s=0.01), replicas=2) as (made, here):
        calls = [asyncio.ensure_future(text_of(made.plane, here, asked("tale", 80, temperature=1.0))) for _ in range(6)]
        await asyncio.sleep(0.4)
        made.kill("1")
        found = await asyncio.gather(*calls)
        assert len(set(found)) > 1, "each has a seed of its own"
        assert {len(text) for text in found} == {80}


async def test_where_another_replica_writes_something_else_the_stream_ends_with_an_error() -> None:
    async with engine(letters(pause_s=0.01, fickle=True), replicas=2) as (made, here):
        calls = [asyncio.ensure_future(parts_of(made.plane, here, asked("tale", 80))) for _ in range(4)]
        await asyncio.sleep(0.3)
        made.kill("1")
        found = await asyncio.gather(*calls, return_exceptions=True)
        failed = [one for one in found if isinstance(one, errors.RunFailed)]
        assert len(failed) == 2, "those of the dead one"
        assert all("does not write the same" in str(one) for one in failed)


async def test_texts_that_have_not_begun_move_on_unseen() -> None:
    async with engine(letters(slots=1, pause_s=0.01), replicas=2) as (made, here):
        calls = [
            asyncio.ensure_future(text_of(made.plane, here, asked(f"tale {n}", 40, temperature=1.0, seed=n)))
            for n in range(6)
        ]
        await asyncio.sleep(0.2)
        made.kill("1")
        assert list(await asyncio.gather(*calls)) == [answer_to(f"tale {n}", 40, n) for n in range(6)]


async def test_who_waits_is_begun_when_the_last_text_ends() -> None:
    """And not when the idle replica is proven again, 4 s later."""
    async with engine(letters(slots=1)) as (made, here):
        calls = [text_of(made.plane, here, asked(f"tale {n}", 2)) for n in range(8)]
        assert await asyncio.wait_for(asyncio.gather(*calls), 8) == [answer_to(f"tale {n}", 2) for n in range(8)]


async def test_a_text_that_kills_is_given_up_and_no_other() -> None:
    """As often as it is asked for: each time it takes three along, which nobody starts again here."""
    async with engine(letters(), replicas=7) as (made, here):
        calls = [text_of(made.plane, here, asked(prompt, 5)) for prompt in ("good", f"please {DEADLY}")]
        good, bad = await asyncio.gather(*calls, return_exceptions=True)
        assert good == answer_to("good", 5)
        assert isinstance(bad, errors.ModelportError)
        with pytest.raises(errors.ModelportError):
            await text_of(made.plane, here, asked(f"please {DEADLY}", 5))
        assert await text_of(made.plane, here, asked("good", 5)) == answer_to("good", 5)


async def test_a_text_is_not_blamed_for_what_another_gateways_text_has_done() -> None:
    """Twice its replica dies while this gateway has nothing else there; it is written by the third, and ever after."""
    async with engine(letters(pause_s=0.01), replicas=3) as (made, here):
        innocent = asyncio.ensure_future(text_of(made.plane, here, asked("tale", 100)))
        for _ in range(2):
            await asyncio.sleep(0.3)
            assert here.dispatcher.in_flight == 1
            made.kill(next(name for name, link in here.dispatcher._links.items() if link.inflight))
        assert await innocent == answer_to("tale", 100)
        assert await text_of(made.plane, here, asked("tale", 100)) == answer_to("tale", 100)


async def test_one_callers_flood_leaves_him_who_comes_a_place_and_a_turn() -> None:
    """More than can wait: who floods is refused some, and another's first text is begun within a few steps."""
    async with engine(letters(slots=4, pause_s=0.005)) as (made, here):
        flood = [asyncio.ensure_future(text_of(made.plane, here, asked(f"f{n}", 900), "many")) for n in range(60)]
        await asyncio.sleep(0.3)
        assert sum(call.done() for call in flood) > 30, "refused"
        assert await asyncio.wait_for(text_of(made.plane, here, asked("mine", 5), "one"), 3) == answer_to("mine", 5)
        assert not any(call.done() and not call.exception() for call in flood), "it has waited for none of them"
        for call in flood:
            call.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


async def test_one_callers_flood_leaves_slots_to_others() -> None:
    async with engine(letters(slots=4, pause_s=0.005)) as (made, here):
        flood = [asyncio.ensure_future(text_of(made.plane, here, asked(f"f{n}", 200), "many")) for n in range(12)]
        await asyncio.sleep(0.1)
        assert await text_of(made.plane, here, asked("mine", 5), "one") == answer_to("mine", 5)
        assert not any(call.done() for call in flood), "it has waited for none of them"
        for call in flood:
            call.cancel()


async def test_who_asks_again_at_once_does_not_wait_for_anothers_step() -> None:
    """Else each of his texts of one token costs two steps: one that has just begun, and one that reads it."""
    async with engine(letters(pause_s=0.05)) as (made, here):
        other: list[Part] = []

        async def write() -> None:
            async with aclosing(made.plane.generate(here, _by(asked("tale", 4000), "many"), InferRequest({}))) as parts:
                async for part in parts:
                    other.append(part)

        writing = asyncio.ensure_future(write())
        steps = []
        while len(steps) < 12 and min(steps, default=99) > 8:  # a busy machine may bring him back too late
            before = len(other)
            for turn in range(6):
                await text_of(made.plane, here, asked(f"{len(steps)} {turn}", 1), "one")
            steps.append(len(other) - before)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert min(steps) <= 8, steps


async def test_background_texts_give_way_to_who_waits() -> None:
    """All slots that the background may have are taken for thousands of steps; live texts are begun all the same."""
    async with engine(letters(slots=4, pause_s=0.005)) as (made, here):

        async def behind(number: int) -> str:
            request = InferRequest({}, priority=9)
            parts = made.plane.generate(here, asked(f"night {number}", 3000), request)
            async with aclosing(parts):
                return "".join([part.text async for part in parts])

        nights = [asyncio.ensure_future(behind(number)) for number in range(3)]
        await asyncio.sleep(0.1)
        calls = [text_of(made.plane, here, asked(f"day {n}", 5), f"caller {n}") for n in range(4)]
        assert await asyncio.wait_for(asyncio.gather(*calls), 5) == [answer_to(f"day {n}", 5) for n in range(4)]
        gone = [night for night in nights if night.done()]
        assert gone
        for night in gone:
            assert isinstance(night.exception(), errors.Overloaded)
        for night in nights:
            night.cancel()
        await asyncio.gather(*nights, return_exceptions=True)


async def test_beyond_its_room_callers_are_told_to_come_again() -> None:
    async with engine(letters(slots=2, room=300, pause_s=0.001)) as (made, here):
        calls = [asyncio.ensure_future(text_of(made.plane, here, asked("x" * 100, 90))) for _ in range(12)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        refused = [one for one in done if isinstance(one, errors.Overloaded)]
        assert refused
        assert {one for one in done if isinstance(one, str)} == {answer_to("x" * 100, 90)}
        assert len(refused) < 12


async def test_a_prompt_beyond_the_context_names_both_numbers() -> None:
    async with engine(letters(context=50)) as (made, here):
        with pytest.raises(errors.ContextExceeded, match=r"50 tokens, but the prompt has 60"):
            await text_of(made.plane, here, asked("x" * 60))
        assert len(await text_of(made.plane, here, asked("x" * 45, 100))) == 5, "as much as the context holds"


async def test_a_text_far_beyond_the_context_is_refused_unread() -> None:
    """For tokens alone as well, which are told of eight times as much."""
    async with engine(letters(context=50)) as (made, here):
        for only, limit in ((None, 50), ("tokens", 400), ("pieces", 400)):
            what = msgspec.structs.replace(asked("x" * 5000), only=only)
            with pytest.raises(
                errors.ContextExceeded, match=rf" {limit} tokens, but the prompt has 5000 characters: at least"
            ):
                await parts_of(made.plane, here, what)
        (counted,) = await parts_of(made.plane, here, msgspec.structs.replace(asked("x" * 400), only="tokens"))
        assert len(counted.tokens) == 400


async def test_one_large_answer_is_no_gateway_that_does_not_read() -> None:
    """It shares the connection with a text that goes on."""
    async with engine(letters(context=7_000_000, room=10_000_000, pause_s=0.01)) as (made, here):
        long = asyncio.ensure_future(text_of(made.plane, here, asked("tale", 60)))
        what = msgspec.structs.replace(asked("x" * 6_000_000), only="tokens")
        (part,) = await parts_of(made.plane, here, what)
        assert len(part.tokens) == 6_000_000
        assert await long == answer_to("tale", 60)
        assert not here.stats.retried


async def test_arguments_nested_without_end_are_refused() -> None:
    async with engine(letters()) as (made, here):
        call = {"type": "function", "function": {"name": "f", "arguments": "[" * 100_000}}
        messages = [{"role": "assistant", "content": "", "tool_calls": [call]}]
        with pytest.raises(errors.InvalidInput, match="nested too deeply"):
            await parts_of(made.plane, here, Asked(Sampling(max_tokens=2), messages=messages))


async def test_a_conversation_goes_where_its_beginning_is_known() -> None:
    async with engine(letters(pause_s=0.001), replicas=2) as (_, here):
        used = []
        for turn in range(1, 5):
            messages = [{"role": "user", "content": "tell me " * 200}] * turn
            what = Asked(Sampling(max_tokens=2, temperature=0), messages=messages)
            pending = here.dispatcher.submit(
                InferRequest({}), {}, 1, None, stream=True, asked=what
            )  # which link it takes is what counts; its own answer is an error
            await asyncio.sleep(0.05)
            used.append(here.dispatcher._affinity._seen[pending.beginnings[0]])
        assert len(set(used)) == 1
