"""What limited keys may spend: the bucket's arithmetic, gateways that share one, and real texts that are paid for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport import errors
from modelport.api.channel import Borrower
from modelport.control.quotas import Quotas
from modelport.engine.allowance import Allowances, Bucket, Granted, Loan
from modelport.engine.generation import Asked, Part, Sampling
from modelport.engine.requests import InferRequest
from modelport.engine.routing import KeyEntry, RoutingTable
from tests.engine.language.fake import answer_to, letters
from tests.engine.replicas import engine


def key(id: str = "k", **limits: Any) -> KeyEntry:
    return KeyEntry(id, id * 8, "default", "caller", **limits)


def allowances(*keys: KeyEntry, lender: Any = None) -> Allowances:
    made = Allowances(lender)
    made.update(RoutingTable(1, keys=keys))
    return made


class Lending:
    """Control's buckets, a moment away."""

    def __init__(self) -> None:
        self.quotas = Quotas()

    async def ask(self, loan: Loan) -> Granted:
        await asyncio.sleep(0.001)
        return self.quotas.lend(loan)

    def tell(self, loan: Loan) -> None:
        self.quotas.lend(loan)


async def parts(count: int, prompt: int = 10) -> AsyncGenerator[Part]:
    for number in range(count):
        yield Part("x", (number,), prompt_tokens=prompt if number == 0 else 0)


async def spend(
    book: Allowances, count: int, *, prompt: int = 10, most: int | None = None, limit: int = 600, stop: int = 10_000
) -> InferRequest:
    """One answer of so many tokens, left after ``stop``."""
    request = InferRequest({}, caller="k")
    asked = Asked(Sampling(max_tokens=most), tokens=tuple(range(prompt)), caller="k")
    async with aclosing(book.metered(parts(count, prompt), asked, "model", limit, request)) as found:
        async for _ in found:
            stop -= 1
            if not stop:
                break
    return request


@given(st.lists(st.tuples(st.integers(-50, 300), st.integers(0, 20), st.floats(0, 30)), max_size=40))
def test_a_bucket_never_lends_more_than_flows_in(asked: list[tuple[int, int, float]]) -> None:
    """Whatever is asked for and given back: a minute's tokens at the start, and the rate from then on."""
    now, lent = 0.0, 0
    bucket = Bucket(600, now)
    for needed, welcome, pause in asked:
        now += pause
        least, owed = max(needed, 0), max(min(needed, 0), -lent)  # only what was lent is given back
        granted = bucket.lend(Loan("k", "model", 600, least, welcome, owed), now)
        assert granted.tokens in (0, *range(least, least + welcome + 1))
        lent += granted.tokens + owed
        assert lent <= 600 + now * 10 + 1e-6
        assert granted.left == int(bucket.level(now))


def test_a_bucket_says_when_it_would_lend() -> None:
    bucket = Bucket(60, 0)
    assert bucket.lend(Loan("k", "m", 60, 60, 5), 0).tokens == 60
    refused = bucket.lend(Loan("k", "m", 60, 30, 0), 0)
    assert refused.tokens == 0
    assert refused.wait_s == pytest.approx(30)
    assert bucket.lend(Loan("k", "m", 60, 30, 0), 29.9).tokens == 0
    assert bucket.lend(Loan("k", "m", 60, 30, 0), 30.1).tokens == 30


def test_what_is_larger_than_a_minutes_tokens_needs_a_full_bucket() -> None:
    bucket = Bucket(60, 0)
    assert bucket.lend(Loan("k", "m", 60, 100, 0), 0).tokens == 100
    assert bucket.level(0) == -40
    assert bucket.lend(Loan("k", "m", 60, 1, 0), 40).wait_s == pytest.approx(1)


async def test_a_spent_key_is_told_to_wait_and_what_was_not_spent_comes_back() -> None:
    book = allowances(key(tokens_per_minute=600), lender=None)
    request = await spend(book, 90, most=500)
    assert request.budget is not None and request.budget.limit == 600
    assert (await spend(book, 400, most=450)).budget is not None  # 100 were spent, not 510
    with pytest.raises(errors.Overloaded) as refused:
        await spend(book, 1, most=400)
    assert 1 < refused.value.retry_after <= 60
    assert "600 tokens a minute" in refused.value.message


async def test_an_unbounded_answer_is_paid_for_afterwards() -> None:
    book = allowances(key(tokens_per_minute=600))
    await spend(book, 1200)
    with pytest.raises(errors.Overloaded) as refused:
        await spend(book, 1)
    assert 50 <= refused.value.retry_after <= 70, "610 tokens are owed, at 10 a second"


async def test_who_leaves_pays_for_what_was_written() -> None:
    lender = Lending()
    book = allowances(key(tokens_per_minute=600), lender=lender)
    await spend(book, 100, most=300, stop=20)
    left = lender.quotas.lend(Loan("k", "model", 600)).left
    assert left == 600 - 10 - 20 - 10, "prompt, written, and the slice that a gateway keeps"


async def test_gateways_share_one_bucket() -> None:
    lender = Lending()
    books = [allowances(key(tokens_per_minute=6000), lender=lender) for _ in range(4)]
    taken = 0
    for number in range(200):
        try:
            await spend(books[number % 4], 40, most=60, limit=6000)
            taken += 50
        except errors.Overloaded:
            break
        await asyncio.sleep(0)
    assert 6000 - 4 * 100 - 70 <= taken <= 6000 + 100


async def test_stampede_takes_no_more_than_there_is() -> None:
    """All at once, so that nobody has spent anything when the next one is looked at."""
    book = allowances(key(tokens_per_minute=1000), lender=Lending())
    found = await asyncio.gather(*(spend(book, 90, most=90, limit=1000) for _ in range(50)), return_exceptions=True)
    assert 9 <= sum(isinstance(each, InferRequest) for each in found) <= 10
    assert all(isinstance(each, InferRequest | errors.Overloaded) for each in found)


async def test_without_its_lender_a_gateway_has_its_share() -> None:
    book = allowances(key(tokens_per_minute=800), lender=Borrower())  # that has never reached control
    await spend(book, 150, most=150, limit=800)
    with pytest.raises(errors.Overloaded):
        await spend(book, 150, most=150, limit=800)


async def test_real_texts_are_paid_for_by_key_and_model() -> None:
    async with engine(letters()) as (made, endpoint):
        limited = key(tokens_per_minute=130, max_tokens=60)
        route = endpoint.route
        await made.plane.update(RoutingTable(7, (route,), (limited, key("free"))))

        async def ask(caller: str, tokens: int | None) -> str:
            asked = Asked(Sampling(max_tokens=tokens, temperature=0), prompt="abcd", caller=caller)
            request = InferRequest({}, caller=caller)
            async with aclosing(made.plane.generate(endpoint, asked, request)) as found:
                return "".join([part.text async for part in found])

        assert await ask("k", 40) == answer_to("abcd", 40)
        with pytest.raises(errors.InvalidInput, match="at most 60") as refused:
            await ask("k", 61)
        assert refused.value.field == "max_tokens"
        assert len(await ask("k", None)) == 60, "what asks for no number gets what the key may have"
        with pytest.raises(errors.Overloaded):
            await ask("k", 60)
        assert len(await ask("free", 200)) == 200


async def test_other_models_are_as_if_they_were_not_there() -> None:
    async with engine(letters()) as (made, endpoint):
        await made.plane.update(RoutingTable(7, (endpoint.route,), (key(models=("other",)),)))
        missing = {}
        for name in ("model", "nothing"):
            with pytest.raises(errors.NotFound) as refused:
                made.plane.find("default", name, only=("other",))
            missing[name] = refused.value.message.replace(repr(name), "X")
        assert missing["model"] == missing["nothing"]
        request = InferRequest({}, caller="k")
        with pytest.raises(errors.NotFound) as refused:
            await anext(made.plane.generate(endpoint, Asked(prompt="a", caller="k"), request))
        assert refused.value.message.replace("'model'", "X") == missing["nothing"]
        with pytest.raises(errors.NotFound):
            await made.plane.infer(endpoint, request)
        with pytest.raises(errors.NotFound):
            await anext(made.plane.stream(endpoint, request))
        assert made.plane.endpoints("default", ("other",)) == []
