"""Forms that are made ready while others are written."""

from __future__ import annotations

import asyncio
import select
import threading

from modelport.engine.generation import Format
from modelport.engine.language.preparing import Preparing
from modelport.engine.runtime import Prepares
from modelport.errors import InvalidInput
from tests.engine.language.fake import answer_to, letters
from tests.engine.language.test_generating import asked, text_of
from tests.engine.replicas import engine

SLOW = Format(grammar='root ::= "slow"')


class Forms(Prepares):
    """Prepares one when it is told to."""

    def __init__(self) -> None:
        self.go_on, self.began = threading.Semaphore(0), list[str]()

    def is_prepared(self, form: Format) -> bool:
        if form.grammar == "odd":
            raise TypeError("what is that?")
        return form.grammar == "known"

    def prepare(self, form: Format) -> None:
        self.began.append(str(form.grammar))
        assert self.go_on.acquire(timeout=10)
        if form.grammar == "bad":
            raise RuntimeError("no such form")
        if form.grammar == "none":
            raise InvalidInput("this is no grammar")


def one_of(preparing: Preparing[str]) -> str:
    assert select.select([preparing.woken], [], [], 10)[0], "nobody is woken"
    preparing.woken.recv(64)
    found = preparing.ready()
    assert found is not None
    return found[0]


def test_what_is_known_has_no_form_or_a_runtime_that_prepares_none_does_not_wait() -> None:
    preparing: Preparing[str] = Preparing(Forms())
    assert not preparing.add("text", Format(grammar="known"), "")
    assert not preparing.add("text", None, "")
    assert not Preparing[str](object()).add("text", Format(grammar="new"), "")
    assert not preparing


def test_a_form_the_runtime_cannot_look_up_is_refused_where_texts_are_begun_and_breaks_nothing() -> None:
    assert not Preparing[str](Forms()).add("text", Format(grammar="odd"), "")


def test_callers_take_turns() -> None:
    forms = Forms()
    preparing: Preparing[str] = Preparing(forms)
    for number in range(3):
        assert preparing.add(f"many {number}", Format(grammar=f"m{number}"), "many")
    assert preparing.add("one", Format(grammar="o"), "one")
    assert preparing.ready() is None
    order = []
    for _ in range(4):
        forms.go_on.release()
        order.append(one_of(preparing))
    assert order == ["many 0", "one", "many 1", "many 2"]
    assert not preparing


def test_what_fails_comes_back_for_the_runtime_to_refuse_and_the_next_is_prepared() -> None:
    forms = Forms()
    preparing: Preparing[str] = Preparing(forms)
    preparing.add("bad", Format(grammar="bad"), "")
    preparing.add("good", Format(grammar="good"), "")
    forms.go_on.release(2)
    assert [one_of(preparing), one_of(preparing)] == ["bad", "good"]


def test_what_is_no_form_comes_back_with_the_reason() -> None:
    forms = Forms()
    preparing: Preparing[str] = Preparing(forms)
    preparing.add("text", Format(grammar="none"), "")
    forms.go_on.release()
    assert select.select([preparing.woken], [], [], 10)[0]
    text, error = preparing.ready() or ("", None)
    assert text == "text"
    assert "no grammar" in str(error)


def test_who_is_dropped_does_not_come_back() -> None:
    forms = Forms()
    preparing: Preparing[str] = Preparing(forms)
    for name in ("now", "waits", "stays"):
        preparing.add(name, Format(grammar=name), "")
    assert preparing.drop("now")
    assert preparing.drop("waits")
    assert not preparing.drop("waits")
    assert preparing
    forms.go_on.release(2)
    while (found := preparing.ready()) is None:
        assert select.select([preparing.woken], [], [], 10)[0]
        preparing.woken.recv(64)
    assert found == ("stays", None)
    assert not preparing
    assert "waits" not in forms.began


async def test_others_are_written_while_a_form_is_prepared() -> None:
    async with engine(letters(prepare_s=1.0, pause_s=0.005)) as (made, here):
        form = asyncio.ensure_future(text_of(made.plane, here, asked("form", 5, format=SLOW)))
        await asyncio.sleep(0.1)
        for number in range(3):
            assert await text_of(made.plane, here, asked(f"tale {number}", 10)) == answer_to(f"tale {number}", 10)
        assert not form.done()
        assert await form == answer_to("form", 5)
        assert await text_of(made.plane, here, asked("again", 5, format=SLOW)) == answer_to("again", 5)


async def test_who_goes_away_while_his_form_is_prepared_leaves_his_slot() -> None:
    async with engine(letters(slots=1, prepare_s=0.5)) as (made, here):
        form = asyncio.ensure_future(text_of(made.plane, here, asked("form", 5, format=SLOW)))
        await asyncio.sleep(0.1)
        waits = asyncio.ensure_future(text_of(made.plane, here, asked("tale", 10)))
        await asyncio.sleep(0.1)
        assert not waits.done(), "the one slot is taken"
        form.cancel()
        assert await asyncio.wait_for(waits, 5) == answer_to("tale", 10)
