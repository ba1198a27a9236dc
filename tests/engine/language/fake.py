"""An engine that writes letters: the next one follows from all that stands before, so that every answer is known.

As real ones it writes many texts in a step, keeps slots and room, and answers nothing faster than its pause.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from modelport.engine.generation import Facts, Format, Sampling
from modelport.engine.runtime import Adapts, Generates, LoadOptions, Prepares, Runtime, Stepped
from modelport.engine.texts import SIGNATURE
from modelport.errors import InvalidInput

if TYPE_CHECKING:
    from tests.engine.replicas import Engine

_TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}<assistant>"
DEADLY = "kill the replica"


def following(tokens: Sequence[int], seed: int = 0) -> int:
    """The letter that comes next; a blank now and then."""
    value = zlib.crc32(bytes(tokens), seed & 0xFFFFFFFF) % 28
    return 32 if value >= 26 else 97 + value


def answer_to(prompt: str, count: int, seed: int = 0) -> str:
    """What is written."""
    tokens = list(prompt.encode())
    for _ in range(count):
        tokens.append(following(tokens, seed))
    return bytes(tokens[len(prompt.encode()) :]).decode()


def letters(**how: Any) -> Any:
    """For ``tests.engine.replicas.engine``: context, slots, room, lacks, cached, pause_s, prepare_s and fickle (every
    process writes something else) may be said."""

    def make(engine: Engine) -> None:
        engine.runtime, engine.files, engine.details = "tests.engine.language.fake:Letters", (), how
        engine.signature = SIGNATURE  # type: ignore[attr-defined]
        root = Path(__file__).parents[3]
        engine.python_path = os.pathsep.join((str(root), str(root / "src")))  # the replica is of this tree, too

    return make


class Letters(Runtime, Generates, Adapts, Prepares):
    """The engine; tokens are bytes."""

    name = platform = "letters"
    not_batched = "texts are written in steps"

    def __init__(self, how: dict[str, Any]) -> None:
        self._pause = how.get("pause_s", 0.0)
        self._prepare_s = how.get("prepare_s", 0.0)
        self._prepared: set[bytes] = set()
        self._cached = how.get("cached")
        self._mood = os.getpid() if how.get("fickle") else 0
        self._facts = Facts(
            context=how.get("context", 4096), slots=how.get("slots", 8), room=how.get("room", 100_000),
            lacks=tuple(how.get("lacks", ("min_p",))), words=how.get("words", 0),
        )  # fmt: skip
        self._texts: dict[int, tuple[list[int], Sampling, int]] = {}

    @classmethod
    def load(cls, options: LoadOptions) -> Self:
        return cls(options.details)

    @property
    def facts(self) -> Facts:
        return self._facts

    def infer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        raise InvalidInput("a language model is asked for a stream")

    def encode(self, text: str, *, special: bool) -> list[int]:
        return list(text.encode())

    def special_texts(self) -> frozenset[str]:
        return frozenset({"</>", "<assistant>"})

    @property
    def longest_token(self) -> int:
        return 1

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    def chat_template(self) -> tuple[str, dict[str, str]]:
        return _TEMPLATE, {}

    def begin(self, number: int, prompt: Sequence[int], sampling: Sampling, adapter: str | None) -> None:
        if len(self._texts) >= self._facts.slots:
            raise AssertionError("more texts than slots")
        if adapter is not None and adapter not in self._facts.adapters:
            raise InvalidInput(f"no adapter {adapter!r}")
        self._texts[number] = list(prompt), sampling, len(prompt)

    def is_prepared(self, form: Format) -> bool:
        return msgspec.json.encode(form) in self._prepared

    def prepare(self, form: Format) -> None:
        time.sleep(self._prepare_s)
        self._prepared.add(msgspec.json.encode(form))

    def attach(self, adapter: str, folder: Path) -> None:
        self._facts = msgspec.structs.replace(self._facts, adapters=(*self._facts.adapters, adapter))

    def detach(self, adapter: str) -> None:
        left = tuple(held for held in self._facts.adapters if held != adapter)
        self._facts = msgspec.structs.replace(self._facts, adapters=left)

    def step(self) -> list[Stepped]:
        time.sleep(self._pause)
        gained = []
        for number, (tokens, sampling, start) in list(self._texts.items()):
            if bytes(tokens[:start]).decode(errors="replace").endswith(DEADLY):
                os._exit(9)
            tokens.append(following(tokens, self._mood + ((sampling.seed or 0) if sampling.temperature else 0)))
            done = len(tokens) - start >= (sampling.max_tokens or 0)
            if done:
                del self._texts[number]
            logprobs = (-0.5,) if sampling.logprobs is not None else ()
            gained.append(Stepped(number, (tokens[-1],), logprobs, (), "length" if done else None, self._cached))
        return gained

    def cancel(self, number: int) -> None:
        self._texts.pop(number, None)

    def usage(self) -> float:
        return len(self._texts) / self._facts.slots
