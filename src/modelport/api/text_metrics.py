"""Figures of language models for Prometheus, twice: under names of ours by caller, and under vLLM's by model.

vLLM's names (its "Production Metrics") are there so that dashboards made for it work: ``model_name`` is the endpoint,
and what they count is that of all callers. Ours have the labels of ``metrics`` and ``key``: the id of the caller's key,
empty for whoever needs none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from modelport.api.channel import EndpointFigures
from modelport.engine.text_stats import BOUNDS, TextStats, summed

Labels = tuple[str, ...]
LABELS = ("project", "endpoint", "model", "version")
_VLLM = ("project", "model_name")
_HISTOGRAMS = (
    ("first", "modelport_first_token_seconds", ("time_to_first_token_seconds",), "From the request to its first part."),
    ("between", "modelport_inter_token_seconds", ("inter_token_latency_seconds", "time_per_output_token_seconds"),
     "From one token to the next."),
    ("pace", "", ("request_time_per_output_token_seconds",), "From one token to the next, each text's mean."),
    ("whole", "modelport_text_seconds", ("e2e_request_latency_seconds",), "From the request to the last part."),
    ("queue", "modelport_text_queue_seconds", ("request_queue_time_seconds",), "Until a text's turn."),
    ("prefill", "", ("request_prefill_time_seconds",), "From a text's turn to its first part."),
    ("decode", "", ("request_decode_time_seconds",), "From the first part of a text to its last."),
    ("prompts", "", ("request_prompt_tokens",), "Tokens of one prompt."),
    ("answers", "", ("request_generation_tokens",), "Tokens of one answer."),
    ("most", "", ("request_params_max_tokens", "request_max_num_generation_tokens"),
     "Tokens that an answer may have, where its caller says it."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Watched:
    """An endpoint's replicas, as whoever runs them sees them."""

    labels: Labels
    """In the order of ``LABELS``."""
    ready: int
    restarts: int
    memory: Mapping[str, float]
    """Resident bytes of each."""
    load: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """What those of a language model say, by their ids: see ``fleet.Replica``."""


def families(grouped: dict[Labels, list[EndpointFigures]], seen: Sequence[Watched]) -> Iterable[Metric]:
    """Those that have a sample. ``grouped``: what gateways have counted, by the labels of an endpoint."""
    return (family for family in _families(grouped, seen) if family.samples)


def _families(grouped: dict[Labels, list[EndpointFigures]], seen: Sequence[Watched]) -> Iterable[Metric]:
    by_key: dict[Labels, TextStats] = {}
    by_model: dict[Labels, TextStats] = {}
    for labels, found in grouped.items():
        keys = sorted({key for figures in found for key in figures.stats.texts})
        for key in keys:
            by_key[*labels, key] = summed([each.stats.texts[key] for each in found if key in each.stats.texts])
        if keys:
            by_model[labels[:2]] = summed([by_key[*labels, key] for key in keys])
    yield from _ours(by_key, grouped)
    yield from _replicas(seen)
    yield from _counters_of_vllm(by_model)
    for name, _, theirs, help_ in _HISTOGRAMS:
        for their in theirs:
            yield _histogram(f"vllm:{their}", help_, _VLLM, name, by_model)
    yield from _gauges_of_vllm(grouped, seen)


def _ours(by_key: dict[Labels, TextStats], grouped: dict[Labels, list[EndpointFigures]]) -> Iterable[Metric]:
    labels = (*LABELS, "key")
    read = CounterMetricFamily("modelport_prompt_tokens", "Tokens that models have read, by caller.", labels=labels)
    cached = CounterMetricFamily(
        "modelport_cached_prompt_tokens", "Of these, found in the cache, where the engine tells.", labels=labels
    )
    written = CounterMetricFamily("modelport_generated_tokens", "Tokens that models have written.", labels=labels)
    ahead = CounterMetricFamily(
        "modelport_accepted_tokens", "Of these, tried ahead and right, where tokens are tried ahead.", labels=labels
    )
    texts = CounterMetricFamily(
        "modelport_texts", "Texts by how they ended: stop, length, abort, error.", labels=(*labels, "finished_reason")
    )
    for values, stats in by_key.items():
        read.add_metric(values, stats.prompt_tokens)
        if stats.cached_tokens:
            cached.add_metric(values, stats.cached_tokens)
        if stats.ended or stats.tokens:
            written.add_metric(values, stats.tokens)
        if stats.ahead:
            ahead.add_metric(values, stats.ahead)
        for reason, count in sorted(stats.ended.items()):
            texts.add_metric((*values, reason), count)
    under_way = GaugeMetricFamily(
        "modelport_texts_in_flight", "Texts now: being written, or not yet begun.", labels=(*labels, "state")
    )
    for values, found in grouped.items():
        for key in sorted({key for figures in found for key in figures.texts}):
            counts = [figures.texts.get(key, (0, 0)) for figures in found]
            under_way.add_metric((*values, key, "writing"), sum(writing for writing, _ in counts))
            under_way.add_metric((*values, key, "waiting"), sum(waiting for _, waiting in counts))
    yield from (read, cached, written, ahead, texts, under_way)
    for name, ours, _, help_ in _HISTOGRAMS:
        if ours:
            yield _histogram(ours, help_, labels, name, by_key)


def _replicas(seen: Sequence[Watched]) -> Iterable[Metric]:
    labels = (*LABELS, "replica")
    running = GaugeMetricFamily("modelport_replica_texts_running", "Texts that a replica writes now.", labels=labels)
    waiting = GaugeMetricFamily("modelport_replica_texts_waiting", "Texts that wait in a replica.", labels=labels)
    cache = GaugeMetricFamily("modelport_replica_cache_usage", "Share of its cache that is used, 0-1.", labels=labels)
    for watched in seen:
        for replica, load in watched.load.items():
            values = (*watched.labels, replica)
            running.add_metric(values, load["running"])
            waiting.add_metric(values, load["waiting"])
            cache.add_metric(values, load["cache"])
    yield from (running, waiting, cache)


def _counters_of_vllm(by_model: dict[Labels, TextStats]) -> Iterable[Metric]:
    read = CounterMetricFamily("vllm:prompt_tokens", "Tokens that models have read.", labels=_VLLM)
    written = CounterMetricFamily("vllm:generation_tokens", "Tokens that models have written.", labels=_VLLM)
    queries = CounterMetricFamily("vllm:prefix_cache_queries", "Tokens looked for in the cache.", labels=_VLLM)
    hits = CounterMetricFamily("vllm:prefix_cache_hits", "Tokens found in the cache.", labels=_VLLM)
    ahead = CounterMetricFamily(
        "vllm:spec_decode_num_accepted_tokens", "Tokens that were tried ahead, and right.", labels=_VLLM
    )
    ended = CounterMetricFamily("vllm:request_success", "Texts that ended.", labels=(*_VLLM, "finished_reason"))
    for values, stats in by_model.items():
        read.add_metric(values, stats.prompt_tokens)
        written.add_metric(values, stats.tokens)
        if stats.cached_tokens:  # of an engine that does not tell, nothing is said
            queries.add_metric(values, stats.prompt_tokens)
            hits.add_metric(values, stats.cached_tokens)
        if stats.ahead:
            ahead.add_metric(values, stats.ahead)
        for reason, count in sorted(stats.ended.items()):
            ended.add_metric((*values, reason), count)
    yield from (read, written, queries, hits, ahead, ended)


def _gauges_of_vllm(grouped: dict[Labels, list[EndpointFigures]], seen: Sequence[Watched]) -> Iterable[Metric]:
    queued: dict[Labels, int] = {}
    for labels, found in grouped.items():
        queued[labels[:2]] = queued.get(labels[:2], 0) + sum(figures.waiting for figures in found)
    running = GaugeMetricFamily("vllm:num_requests_running", "Texts that are being written.", labels=_VLLM)
    waiting = GaugeMetricFamily("vllm:num_requests_waiting", "Texts that wait for their turn.", labels=_VLLM)
    usage = [
        GaugeMetricFamily(f"vllm:{name}", "Share of the replicas' caches that is used, 0-1.", labels=_VLLM)
        for name in ("kv_cache_usage_perc", "gpu_cache_usage_perc")
    ]
    for watched in seen:
        loads = list(watched.load.values())
        if loads:
            values = watched.labels[:2]
            running.add_metric(values, sum(load["running"] for load in loads))
            waiting.add_metric(values, sum(load["waiting"] for load in loads) + queued.get(values, 0))
            for family in usage:
                family.add_metric(values, sum(load["cache"] for load in loads) / len(loads))
    yield from (running, waiting, *usage)


def _histogram(
    name: str, help_: str, labels: Sequence[str], which: str, found: dict[Labels, TextStats]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, help_, labels=labels)
    bounds = [*(f"{bound:g}" for bound in BOUNDS[which]), "+Inf"]
    scale = 1 if max(BOUNDS[which]) > 10_000 else 1e9
    for values, stats in found.items():
        if not stats.ended and not stats.tokens:  # it reads texts and writes none
            continue
        histogram = stats.measured[which]
        buckets, running = [], 0
        for bound, count in zip(bounds, histogram.counts, strict=True):
            running += count
            buckets.append((bound, float(running)))
        family.add_metric(values, buckets, histogram.total / scale)
    return family
