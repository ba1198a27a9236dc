"""Which steps a measurement has, and its report: the steps' figures, and what they mean together.

Steps go from little load to much, so that Ctrl-C, or a server that gives way, leaves a whole picture of what came
before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from modelport.bench.arrivals import Logged
from modelport.bench.figures import Figures, greatest_within
from modelport.bench.session import Session, rate_text

_AUTO_PARTS = range(1, 12)
"""Tenths of the capacity: the last is more than the server can do."""

Step = Callable[[], Figures | None]
Note = Callable[[str], object]
"""Called with what begins now."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One of: rates per second, numbers of callers, a log; with none of them the rates follow from the capacity."""

    rates: tuple[float, ...] = ()
    callers: tuple[int, ...] = ()
    log: tuple[Logged, ...] = ()
    speed: float = 1.0

    @property
    def mode(self) -> str:
        """In words."""
        if self.callers:
            return "closed loop"
        return "open loop, times of a log" if self.log else "open loop, Poisson arrivals"


@dataclass(slots=True)
class Report:
    """What was measured."""

    model: str
    url: str
    protocol: str
    mode: str
    seed: int
    slo_p99_ms: float | None = None
    capacity: float | None = None
    """Answers per second that 64 callers got at most, where the rates follow from it."""
    steps: list[Figures] = field(default_factory=list)
    interrupted: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def best(self) -> Figures | None:
        """The step of the greatest load that keeps the promise; None without a promise, or a step that keeps it."""
        return greatest_within(self.steps, self.slo_p99_ms) if self.slo_p99_ms is not None else None

    @property
    def all_warnings(self) -> list[str]:
        """Those of the steps by their load, and those of the whole."""
        return [f"{step.load}: {text}" for step in self.steps for text in step.warnings] + self.warnings

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        best = self.best
        return {
            "model": self.model,
            "url": self.url,
            "protocol": self.protocol,
            "mode": self.mode,
            "seed": self.seed,
            "capacity": self.capacity,
            "slo_p99_ms": self.slo_p99_ms,
            "greatest_load_within_slo": None if best is None else best.load,
            "interrupted": self.interrupted,
            "warnings": self.warnings,
            "steps": [step.to_json() for step in self.steps],
        }


def carry_out(session: Session, plan: Plan, report: Report, note: Note) -> None:
    """Run the steps and put their figures into the report, until all are done, Ctrl-C, or a step without answers."""
    try:
        session.check(session.shot_of(plan.log[0]) if plan.log else None)
        steps = list(_steps(session, plan, report, note))
        for number, (name, step) in enumerate(steps, start=1):
            note(f"{name} (step {number} of {len(steps)})")
            found = step()
            if found is not None:
                report.steps.append(found)
            if found is None or found.interrupted:
                report.interrupted = True
                return
            if found.requests and not found.ok and number < len(steps):
                report.warnings.append(f"{found.load}: no request was answered; the steps after it were left out")
                return
    except KeyboardInterrupt:
        report.interrupted = True


def _steps(session: Session, plan: Plan, report: Report, note: Note) -> Iterator[tuple[str, Step]]:
    if plan.callers:
        for callers in sorted(plan.callers):
            yield f"{callers} callers", partial(session.with_callers, callers)
        return
    if plan.log:
        yield f"{len(plan.log)} requests of a log", partial(session.as_logged, plan.log, plan.speed)
        return
    rates = sorted(plan.rates)
    if not rates:
        note("looking for the capacity")
        report.capacity = session.capacity()
        rates = [report.capacity * part / 10 for part in _AUTO_PARTS]
    for rate in rates:
        yield rate_text(rate), partial(session.at_rate, rate)
