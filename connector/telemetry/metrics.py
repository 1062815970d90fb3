"""The definitions of all metrics, and the counters of what happens.

Metrics are in base units, end in `_total` where they count, and carry no digest and no path. State (ready, last
success, ticks) is only defined here: its values are read from the status, so the two cannot disagree. Events are
counted as plain numbers, so that importing this costs nothing; `server/metrics.py` gives them Prometheus's form.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct

Kind = Literal["counter", "gauge", "histogram"]
Phase = Literal["resolve", "fetch", "extract", "encode", "commit"]
TransactionResult = Literal["committed", "aborted", "fenced", "unknown"]


class Metric(Struct, frozen=True):
    """The definition of one metric; histograms name their upper bounds."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# From one HEAD on a warm connection (tens of milliseconds) to the tick's deadline of ten minutes.
_TICK_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_SOURCE = ("flow", "source")
_SINK = ("flow", "sink")

# Read from the status when somebody asks.
STATE_METRICS: tuple[Metric, ...] = (
    Metric("oci_sync_worker_ready", "gauge", "1 if nothing is to be complained of, the fold of all below."),
    Metric("oci_sync_kafka_reachable", "gauge", "1 if a broker answered last."),
    Metric("oci_sync_flows_failed", "gauge", "Flow files that cannot be used."),
    Metric("oci_sync_flows_differ", "gauge", "1 if live workers of the group carry different flows."),
    Metric("oci_sync_partitions_owned", "gauge", "Partitions of the offsets topic by their state.", ("state",)),
    Metric("oci_sync_source_ready", "gauge", "1 if Ready is True, else 0; only sources run here.", _SOURCE),
    Metric("oci_sync_source_stalled", "gauge", "1 if the source needs a person.", _SOURCE),
    Metric("oci_sync_source_paused", "gauge", "1 if the source is paused.", _SOURCE),
    Metric(
        "oci_sync_source_info", "gauge", "1; what the source follows and who runs it.", (*_SOURCE, "artifact", "worker")
    ),
    Metric("oci_sync_source_files", "gauge", "Files of the snapshot that readers have.", _SOURCE),
    Metric("oci_sync_source_interval_seconds", "gauge", "Time between ticks.", _SOURCE),
    Metric("oci_sync_source_consecutive_failures", "gauge", "Ticks that failed since the last that did not.", _SOURCE),
    Metric("oci_sync_last_attempt_timestamp_seconds", "gauge", "When a tick last ended.", _SOURCE),
    Metric("oci_sync_last_success_timestamp_seconds", "gauge", "When a tick last ended well, changed or not.", _SOURCE),
    Metric("oci_sync_last_change_timestamp_seconds", "gauge", "When a snapshot was last committed.", _SOURCE),
    Metric("oci_sync_ticks_total", "counter", "Ticks by how they ended.", (*_SOURCE, "result")),
    Metric(
        "oci_sync_errors_total",
        "counter",
        "Failed ticks by class and reason of the error.",
        (*_SOURCE, "class", "reason"),
    ),
    Metric("oci_sync_sink_ready", "gauge", "1 if Ready is True, else 0.", _SINK),
    Metric("oci_sync_sink_lag_records", "gauge", "Committed records the sink has not worked on.", _SINK),
    Metric("oci_sync_sink_last_applied_timestamp_seconds", "gauge", "When a snapshot was last applied.", _SINK),
    Metric("oci_sync_sink_consecutive_failures", "gauge", "Failures since the last applied snapshot.", _SINK),
    Metric(
        "oci_sync_sink_snapshots_total",
        "counter",
        "Snapshots by result: applied, unchanged, error.",
        (*_SINK, "result"),
    ),
    Metric("oci_sync_sink_writes_total", "counter", "Keys by what was done: put, delete, skip.", (*_SINK, "op")),
)

# Counted as they happen.
EVENT_METRICS: tuple[Metric, ...] = (
    Metric("oci_sync_build_info", "gauge", "1; the versions that run.", ("version", "librdkafka", "python")),
    Metric(
        "oci_sync_tick_duration_seconds", "histogram", "Time a tick spent in a phase.", ("flow", "phase"), _TICK_SECONDS
    ),
    Metric("oci_sync_records_produced_total", "counter", "Committed records by change.", (*_SOURCE, "change")),
    Metric("oci_sync_bytes_produced_total", "counter", "Committed bytes of keys, values and headers.", _SOURCE),
    Metric("oci_sync_blob_bytes_fetched_total", "counter", "Bytes of blobs received.", ("registry",)),
    Metric(
        "oci_sync_registry_requests_total",
        "counter",
        "Answers by status code; none came: code error.",
        ("registry", "method", "code"),
    ),
    Metric(
        "oci_sync_registry_request_duration_seconds",
        "histogram",
        "Time to the head of an answer.",
        ("registry", "method"),
        _REQUEST_SECONDS,
    ),
    Metric(
        "oci_sync_registry_ratelimit_remaining", "gauge", "Requests left, as the registry said last.", ("registry",)
    ),
    Metric("oci_sync_registry_ratelimit_limit", "gauge", "Requests allowed, as the registry said last.", ("registry",)),
    Metric("oci_sync_transactions_total", "counter", "Transactions by result.", ("result",)),
    Metric("oci_sync_transaction_duration_seconds", "histogram", "Begin to commit or abort.", (), _TICK_SECONDS),
    Metric("oci_sync_rebalances_total", "counter", "Assignments received from the group."),
    Metric(
        "oci_sync_restore_duration_seconds", "histogram", "Time to read a partition's offsets back.", (), _TICK_SECONDS
    ),
)

METRICS: tuple[Metric, ...] = STATE_METRICS + EVENT_METRICS
_BY_NAME = {metric.name: metric for metric in EVENT_METRICS}


class Sample(Struct, frozen=True):
    """One value of one metric; label values in the order of the definition's labels."""

    name: str
    labels: tuple[str, ...]
    value: float


class Distribution(Struct, frozen=True):
    """The observations of one histogram: how many fell at or below each bound (not cumulated), then above all."""

    name: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    total: float


class Telemetry:
    """Counts what happens. Each call is a few dict operations and may come from any thread."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, tuple[str, ...]], float] = {}
        self._histograms: dict[tuple[str, tuple[str, ...]], tuple[list[int], float]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Telemetry {len(self._values)} values {len(self._histograms)} histograms>"

    def build(self, version: str, librdkafka: str, python: str) -> None:
        """Tell the versions that run, once at start."""
        self._set("oci_sync_build_info", (version, librdkafka, python), 1)

    def observe_tick(self, flow: str, phases: Mapping[Phase, float]) -> None:
        """The seconds a tick spent in each phase it came to; how it ended is for the status."""
        for phase, seconds in phases.items():
            self._observe("oci_sync_tick_duration_seconds", (flow, phase), seconds)

    def records_produced(self, flow: str, source: str, changes: Mapping[str, int], size_bytes: int) -> None:
        """The records of one committed pull by change (added, modified, unchanged, removed), and their bytes."""
        for change, count in changes.items():
            self._add("oci_sync_records_produced_total", (flow, source, change), count)
        self._add("oci_sync_bytes_produced_total", (flow, source), size_bytes)

    def transaction(self, result: TransactionResult, seconds: float) -> None:
        """A transaction ended."""
        self._add("oci_sync_transactions_total", (result,), 1)
        self._observe("oci_sync_transaction_duration_seconds", (), seconds)

    def registry_request(self, registry: str, method: str, code: int | None, seconds: float) -> None:
        """A request of ours was answered, or (None) was not. `registry` is the one the reference names.

        The host of a redirect or realm must not stand there: a registry could make up names without end.
        """
        known = str(code) if code is not None and 100 <= code <= 599 else "error"
        self._add("oci_sync_registry_requests_total", (registry, method, known), 1)
        self._observe("oci_sync_registry_request_duration_seconds", (registry, method), seconds)

    def rate_limit(self, registry: str, remaining: int, limit: int | None) -> None:
        """What the registry says of our budget."""
        self._set("oci_sync_registry_ratelimit_remaining", (registry,), remaining)
        if limit is not None:
            self._set("oci_sync_registry_ratelimit_limit", (registry,), limit)

    def blob_bytes(self, registry: str, count: int) -> None:
        """Bytes of a blob arrived, wanted or not."""
        self._add("oci_sync_blob_bytes_fetched_total", (registry,), count)

    def rebalanced(self) -> None:
        """The group gave us an assignment."""
        self._add("oci_sync_rebalances_total", (), 1)

    def restored(self, seconds: float) -> None:
        """A partition's offsets were read back."""
        self._observe("oci_sync_restore_duration_seconds", (), seconds)

    def samples(self) -> Iterable[Sample]:
        """All counters and gauges as they are now."""
        with self._lock:
            return [Sample(name, labels, value) for (name, labels), value in self._values.items()]

    def distributions(self) -> Iterable[Distribution]:
        """All histograms as they are now."""
        with self._lock:
            return [
                Distribution(name, labels, tuple(counts), total)
                for (name, labels), (counts, total) in self._histograms.items()
            ]

    def _add(self, name: str, labels: tuple[str, ...], amount: float) -> None:
        with self._lock:
            self._values[name, labels] = self._values.get((name, labels), 0) + amount

    def _set(self, name: str, labels: tuple[str, ...], value: float) -> None:
        with self._lock:
            self._values[name, labels] = value

    def _observe(self, name: str, labels: tuple[str, ...], value: float) -> None:
        buckets = _BY_NAME[name].buckets
        with self._lock:
            counts, total = self._histograms.get((name, labels)) or ([0] * (len(buckets) + 1), 0.0)
            counts[bisect_left(buckets, value)] += 1
            self._histograms[name, labels] = (counts, total + value)
