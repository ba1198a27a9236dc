"""One language model under load: every request a question of its own, answered as a stream.

Any server that speaks OpenAI's ``/v1/chat/completions`` is loaded in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from modelport.bench.language.figures import LanguageFigures, greatest_good, language_figures
from modelport.bench.language.prompts import Mix, Wanted, body_of, questions
from modelport.bench.language.record import NOTHING, LanguageRecord, Promise
from modelport.bench.language.streams import StreamLine
from modelport.bench.loops import Watch, ignore
from modelport.bench.plan import Report
from modelport.bench.record import Record
from modelport.bench.session import Options, Session
from modelport.bench.shots import Shot
from modelport.sdk.endpoint import Target

PATH = "/v1/chat/completions"
_JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked, and what is promised of the answers."""

    mix: Mix
    seed: int = 0
    temperature: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)
    """More fields of each request."""
    promise: Promise = NOTHING


class LanguageSession(Session):
    """A server, a model at it, questions, and the connections that carry them."""

    line_kind = StreamLine

    def __init__(self, target: Target, model: str, asking: Asking, options: Options, watch: Watch = ignore) -> None:
        self._asking, self._questions, self._asked = asking, questions(asking.mix, asking.seed), 0
        first = Wanted("Say one word.", 1)
        super().__init__(target, model, self._shot_of(model, first), options, None, watch)

    def _shot_of(self, model: str, wanted: Wanted) -> Shot:
        return Shot(PATH, _JSON, body_of(model, wanted, self._asking.temperature, self._asking.extra))

    def _shots(self) -> Iterator[Shot]:
        for wanted in self._questions:  # the same through all steps: no step finds its questions in a cache
            self._asked += 1
            yield self._shot_of(self._model, wanted)

    def remarks(self) -> list[str]:
        """What to know of the whole measurement."""
        texts = len(self._asking.mix.texts)
        if texts and self._asked > texts:
            return [
                f"{self._asked:,} requests asked {texts:,} texts: a cache of prefixes made those that came again fast"
            ]
        return []

    def _record(self) -> LanguageRecord:
        return LanguageRecord(0.0, 0.0, self._asking.promise)

    def _figures(self, record: Record, load: str, **more: Any) -> LanguageFigures:
        assert isinstance(record, LanguageRecord)
        return language_figures(record, load, promised=self._asking.promise.is_given, **more)


@dataclass(slots=True)
class LanguageReport(Report):
    """What was measured."""

    promise: Promise = NOTHING

    @property
    def language_steps(self) -> list[LanguageFigures]:
        """The steps, as what they are."""
        return [step for step in self.steps if isinstance(step, LanguageFigures)]

    @property
    def best(self) -> LanguageFigures | None:
        return greatest_good(self.language_steps) if self.promise.is_given else None

    def to_json(self) -> dict[str, Any]:
        promise = {"ttft_ms": self.promise.ttft_ms, "itl_ms": self.promise.itl_ms}
        found = Report.to_json(self) | {"promise": promise}
        del found["slo_p99_ms"], found["capacity"]
        return found
