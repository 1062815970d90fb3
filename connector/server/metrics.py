"""The status and the counted events in Prometheus's form, in the text format or OpenMetrics, as asked.

State is read from one view of the status when somebody scrapes, so metrics, REST and page cannot disagree. Sources of
other workers have no gauges here: they would be a second opinion of one who cannot know.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import accumulate, chain
from typing import get_args

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from connector.status import PartitionState, Status, Truth, View
from connector.status.facts import Result
from connector.status.view import SinkView, SourceView
from connector.telemetry import METRICS, Telemetry
from connector.telemetry.metrics import Distribution, Metric, Sample

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class Metrics(Collector):
    """Answers scrapes from a status and a telemetry; a registry of its own, so nothing else slips in."""

    def __init__(self, status: Status, telemetry: Telemetry, now: Callable[[], datetime]) -> None:
        self._status = status
        self._telemetry = telemetry
        self._now = now
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def collect(self) -> Iterator[Family]:
        """All families that have values now; prometheus_client calls this at each scrape."""
        samples: dict[str, list[Sample]] = {}
        for sample in chain(state_samples(self._status.view(self._now())), self._telemetry.samples()):
            samples.setdefault(sample.name, []).append(sample)
        distributions: dict[str, list[Distribution]] = {}
        for distribution in self._telemetry.distributions():
            distributions.setdefault(distribution.name, []).append(distribution)
        for metric in METRICS:
            if metric.kind == "histogram":
                yield _histogram(metric, distributions.get(metric.name, ()))
            else:
                yield _family(metric, samples.get(metric.name, ()))

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The body and its content type, by the scraper's Accept header."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def state_samples(view: View) -> Iterator[Sample]:
    """The values of all metrics that are state."""
    yield Sample("oci_sync_worker_ready", (), view.ready)
    if view.worker.kafka_reachable is not None:
        yield Sample("oci_sync_kafka_reachable", (), view.worker.kafka_reachable)
    yield Sample("oci_sync_flows_failed", (), sum(flow.problem is not None for flow in view.flows))
    yield Sample("oci_sync_flows_differ", (), bool(view.worker.flows_differ))
    for state in PartitionState:
        count = sum(partition.state is state for partition in view.partitions)
        yield Sample("oci_sync_partitions_owned", (state.value,), count)
    for source in view.sources:
        yield from _source_counts(source)
        if source.owned:
            yield from _source_gauges(source, view.worker.instance)
    for sink in view.sinks:
        yield from _sink_samples(sink)


def _source_counts(source: SourceView) -> Iterator[Sample]:
    facts = source.facts
    for result in get_args(Result):
        # A counter that starts at its first event hides that event from rate(); so owned sources begin at nought.
        if source.owned or result in facts.ticks:
            yield Sample("oci_sync_ticks_total", (*facts.id, result), facts.ticks.get(result, 0))
    for (kind, reason), count in facts.errors.items():
        yield Sample("oci_sync_errors_total", (*facts.id, kind, reason), count)


def _source_gauges(source: SourceView, worker: str) -> Iterator[Sample]:
    facts = source.facts
    yield Sample("oci_sync_source_ready", facts.id, source.ready.status is Truth.TRUE)
    yield Sample("oci_sync_source_stalled", facts.id, source.stalled.status is Truth.TRUE)
    yield Sample("oci_sync_source_paused", facts.id, facts.paused)
    yield Sample("oci_sync_source_info", (*facts.id, facts.artifact, worker), 1)
    yield Sample("oci_sync_source_consecutive_failures", facts.id, facts.consecutive_failures)
    if facts.delivered is not None:
        yield Sample("oci_sync_source_files", facts.id, facts.delivered.files)
    if facts.interval is not None:
        yield Sample("oci_sync_source_interval_seconds", facts.id, facts.interval.total_seconds())
    yield from _timestamp("oci_sync_last_attempt_timestamp_seconds", facts.id, facts.last_attempt)
    yield from _timestamp("oci_sync_last_success_timestamp_seconds", facts.id, facts.last_success)
    yield from _timestamp("oci_sync_last_change_timestamp_seconds", facts.id, facts.last_change)


def _sink_samples(sink: SinkView) -> Iterator[Sample]:
    facts = sink.facts
    yield Sample("oci_sync_sink_ready", facts.id, sink.ready.status is Truth.TRUE)
    yield Sample("oci_sync_sink_consecutive_failures", facts.id, facts.consecutive_failures)
    if facts.lag_records is not None:
        yield Sample("oci_sync_sink_lag_records", facts.id, facts.lag_records)
    yield from _timestamp("oci_sync_sink_last_applied_timestamp_seconds", facts.id, facts.last_applied)
    for result in ("applied", "unchanged", "error"):
        yield Sample("oci_sync_sink_snapshots_total", (*facts.id, result), facts.snapshots.get(result, 0))
    for op in ("put", "delete", "skip"):
        yield Sample("oci_sync_sink_writes_total", (*facts.id, op), facts.writes.get(op, 0))


def _timestamp(name: str, labels: tuple[str, ...], at: datetime | None) -> Iterator[Sample]:
    if at is not None:
        yield Sample(name, labels, at.timestamp())


def _family(metric: Metric, samples: Iterable[Sample]) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for one in samples:
        family.add_metric(one.labels, float(one.value))
    return family


def _histogram(metric: Metric, distributions: Iterable[Distribution]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = [*(str(float(bound)) for bound in metric.buckets), "+Inf"]
    for one in distributions:
        family.add_metric(one.labels, list(zip(bounds, accumulate(one.counts), strict=True)), one.total)
    return family
