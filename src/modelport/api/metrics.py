"""Figures for Prometheus: what gateways counted and replicas said, summed when somebody asks.

One family of names, ``modelport_…``, with the labels project, endpoint, model and version; ``text_metrics`` adds what
only language models have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from modelport.api import text_metrics
from modelport.api.channel import EndpointFigures, Report
from modelport.api.text_metrics import Watched
from modelport.engine.stats import LATENCY_BOUNDS_S

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LABELS = text_metrics.LABELS
_BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class _Figures(Collector):
    def __init__(self, reports: Sequence[Report], seen: Sequence[Watched], project: str | None) -> None:
        self._reports, self._project = reports, project
        self._seen = [watched for watched in seen if project in (None, watched.labels[0])]
        self._grouped = {of: found for of, found in _grouped(reports).items() if project in (None, of[0])}

    def collect(self) -> Iterable[Metric]:
        yield from self._inference()
        if self._project is None:  # they are of processes, which all projects share
            yield from self._http()
        yield from self._replicas()
        yield from text_metrics.families(self._grouped, self._seen)

    def _inference(self) -> Iterable[Metric]:
        inferences = CounterMetricFamily(
            "modelport_inferences", "Inference requests that reached a model, by outcome.", labels=(*_LABELS, "outcome")
        )
        retried = CounterMetricFamily("modelport_retries", "Requests sent again after a replica died.", labels=_LABELS)
        recalled = CounterMetricFamily(
            "modelport_cache_hits", "Requests answered by an equal one's answer, without a run.", labels=_LABELS
        )
        passed_on = CounterMetricFamily(
            "modelport_fallbacks", "Requests that another endpoint has answered in this one's place.", labels=_LABELS
        )
        cascades = CounterMetricFamily(
            "modelport_cascade_texts", "Texts of a cascade, by the model whose answer was kept.",
            labels=(*_LABELS, "kept"),
        )  # fmt: skip
        runs = CounterMetricFamily("modelport_runs", "Runs of a model; one may serve several requests.", labels=_LABELS)
        queue = CounterMetricFamily("modelport_queue_seconds", "Time that requests waited, summed.", labels=_LABELS)
        compute = CounterMetricFamily("modelport_compute_seconds", "Time that models ran, summed.", labels=_LABELS)
        waiting = GaugeMetricFamily("modelport_waiting_requests", "Requests in queues now.", labels=_LABELS)
        in_flight = GaugeMetricFamily("modelport_in_flight_requests", "Requests queued or running now.", labels=_LABELS)
        latency = HistogramMetricFamily(
            "modelport_inference_seconds", "From entering the queue to the answer.", labels=_LABELS
        )
        batch = HistogramMetricFamily("modelport_batch_rows", "Rows of one run.", labels=_LABELS)
        for labels, found in self._grouped.items():
            stats = [figures.stats for figures in found]
            inferences.add_metric((*labels, "success"), sum(s.success for s in stats))
            inferences.add_metric((*labels, "failure"), sum(s.failed for s in stats))
            retried.add_metric(labels, sum(s.retried for s in stats))
            recalled.add_metric(labels, sum(s.recalled for s in stats))
            passed_on.add_metric(labels, sum(s.passed_on for s in stats))
            small, large = sum(s.kept_small for s in stats), sum(s.kept_large for s in stats)
            if small or large:
                cascades.add_metric((*labels, "small"), small)
                cascades.add_metric((*labels, "large"), large)
            runs.add_metric(labels, sum(s.executions for s in stats))
            queue.add_metric(labels, sum(s.queue_ns for s in stats) / 1e9)
            compute.add_metric(labels, sum(s.compute_ns for s in stats) / 1e9)
            waiting.add_metric(labels, sum(figures.waiting for figures in found))
            in_flight.add_metric(labels, sum(figures.in_flight for figures in found))
            counts = [sum(column) for column in zip(*(s.latency for s in stats), strict=True)]
            latency.add_metric(labels, *_buckets(LATENCY_BOUNDS_S, counts, sum(s.success_ns for s in stats) / 1e9))
            sizes: Counter[int] = Counter()
            for s in stats:
                sizes.update(s.batch_sizes)
            batch.add_metric(labels, *_batches(sizes))
        yield from (inferences, retried, recalled, passed_on, cascades, runs)
        yield from (queue, compute, waiting, in_flight, latency, batch)

    def _http(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "modelport_http_requests", "HTTP requests by protocol, endpoint and status.",
            labels=("protocol", "endpoint", "code"),
        )  # fmt: skip
        total: Counter[str] = Counter()
        for report in self._reports:
            total.update(report.http)
        for key, count in sorted(total.items()):
            requests.add_metric(key.split("|"), count)
        memory = GaugeMetricFamily("modelport_gateway_memory_bytes", "Peak resident memory.", labels=("gateway",))
        for report in self._reports:
            memory.add_metric((str(report.gateway),), report.memory)
        yield from (requests, memory)

    def _replicas(self) -> Iterable[Metric]:
        ready = GaugeMetricFamily("modelport_replicas_ready", "Replicas that answer callers.", labels=_LABELS)
        restarts = CounterMetricFamily("modelport_replica_restarts", "Replicas that were replaced.", labels=_LABELS)
        memory = GaugeMetricFamily(
            "modelport_replica_memory_bytes", "Resident memory of one replica.", labels=(*_LABELS, "replica")
        )
        for watched in self._seen:
            ready.add_metric(watched.labels, watched.ready)
            restarts.add_metric(watched.labels, watched.restarts)
            for replica, size in watched.memory.items():
                memory.add_metric((*watched.labels, replica), size)
        yield from (ready, restarts, memory)


def exposition(reports: Sequence[Report], seen: Sequence[Watched], project: str | None = None) -> bytes:
    """The text that Prometheus reads: everything, or what is one project's alone."""
    registry = CollectorRegistry()
    registry.register(_Figures(reports, seen, project))
    return generate_latest(registry)


def _grouped(reports: Sequence[Report]) -> dict[tuple[str, ...], list[EndpointFigures]]:
    grouped: dict[tuple[str, ...], list[EndpointFigures]] = {}
    for report in reports:
        for found in report.endpoints:
            grouped.setdefault((found.project, found.endpoint, found.model, str(found.version)), []).append(found)
    return grouped


def _buckets(bounds: Sequence[float], counts: Sequence[int], total: float) -> tuple[list[tuple[str, float]], float]:
    buckets, running = [], 0
    for bound, count in zip((*(f"{b:g}" for b in bounds), "+Inf"), counts, strict=True):
        running += count
        buckets.append((bound, float(running)))
    return buckets, total


def _batches(sizes: Counter[int]) -> tuple[list[tuple[str, float]], float]:
    counts = [0] * (len(_BATCH_BOUNDS) + 1)
    for size, count in sizes.items():
        counts[next((i for i, bound in enumerate(_BATCH_BOUNDS) if size <= bound), len(_BATCH_BOUNDS))] += count
    return _buckets(_BATCH_BOUNDS, counts, float(sum(size * count for size, count in sizes.items())))
