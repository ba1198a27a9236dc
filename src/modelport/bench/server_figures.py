"""What the server itself says of a model: runs, rows and waiting, read from ``/metrics`` before and after a step.

A server that has no ``/metrics``, or a key that may not read it, leaves those columns out.
"""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from modelport.errors import ModelportError
from modelport.sdk.blocking import BlockingDriver
from modelport.sdk.flows import Request, send
from modelport.sdk.references import parse_reference

_WANTED = {
    "modelport_runs_total": "runs",
    "modelport_batch_rows_sum": "rows",
    "modelport_queue_seconds_total": "queue_s",
    "modelport_inferences_total": "inferences",
}


@dataclass(frozen=True, slots=True)
class Counted:
    """Sums since the server began, over all versions of an endpoint."""

    runs: float = 0
    rows: float = 0
    queue_s: float = 0
    inferences: float = 0

    def since(self, before: Counted) -> dict[str, float | None]:
        """Rows of a run and waiting of a request, on average, between the two; None where nothing ran."""
        runs, inferences = self.runs - before.runs, self.inferences - before.inferences
        return {
            "batch_rows": (self.rows - before.rows) / runs if runs > 0 else None,
            "queue_ms": 1e3 * (self.queue_s - before.queue_s) / inferences if inferences > 0 else None,
        }


def read(driver: BlockingDriver, model: str) -> Counted | None:
    """The sums of now; None where they cannot be had."""
    try:
        answer = driver.run(send(Request("GET", "/metrics", timeout=5), attempts=1))
        return parse(answer.body.decode(), parse_reference(model).name)
    except (ModelportError, ValueError, LookupError):  # the last two: it is not Prometheus's text
        return None


def parse(text: str, endpoint: str) -> Counted:
    """The sums of an endpoint in Prometheus's text."""
    sums = dict.fromkeys(_WANTED.values(), 0.0)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = _WANTED.get(sample.name)
            if name is not None and sample.labels.get("endpoint") == endpoint:
                sums[name] += sample.value
    return Counted(**sums)
