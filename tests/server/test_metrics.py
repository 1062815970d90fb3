"""Metrics equal status: both are read from one state."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from connector.errors import RegistryError
from connector.server.metrics import Metrics
from connector.status import Delivered, PartitionState, SinkId, SourceId, Status, as_json
from connector.telemetry import METRICS, Telemetry

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
SOURCE = SourceId("flows", "pull")
HOSTILE = 'r.example.com/o/f:prod"\n# HELP x\nforged 1'


def scrape(status: Status, telemetry: Telemetry, at: datetime) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    body, content_type = Metrics(status, telemetry, lambda: at).exposition("")
    assert content_type.startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if family.name.startswith("oci_sync")
    }


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["committed", "unchanged", "failed", "lost", "running", "cancelled"]), max_size=12))
def test_metrics_say_what_status_says(events: list[str]) -> None:
    status, at, labels = Status("w", NOW), NOW, frozenset({("flow", "flows"), ("source", "pull")})
    status.register_source(SOURCE, at, artifact=HOSTILE, tag=None, partition=0, interval=timedelta(seconds=30))
    status.partition_state(0, at, PartitionState.RUNNING)
    for event in events:
        at += timedelta(seconds=40)
        match event:
            case "committed":
                status.source_committed(SOURCE, at, Delivered("sha256:a", 7, "p", at), timedelta(seconds=1))
            case "unchanged" if status.view(at).sources[0].facts.delivered:
                status.source_unchanged(SOURCE, at, "sha256:a", timedelta(seconds=1))
            case "failed":
                error = RegistryError(reason="NotFound", doing="a", cause="b", remedy="c")
                status.source_failed(SOURCE, at, error, None)
            case "lost":
                status.partition_lost(0, at)
            case "running":
                status.partition_state(0, at, PartitionState.RUNNING)
            case _:
                status.source_cancelled(SOURCE, at)

    shown = as_json(status.view(at))
    scraped = scrape(status, Telemetry(), at)

    one = shown["sources"][0]  # type: ignore[index]  # plain JSON
    assert scraped["oci_sync_worker_ready", frozenset()] == shown["ready"]
    if one["state"] is None:
        assert ("oci_sync_source_ready", labels) not in scraped, "another worker's to tell"
    else:
        assert scraped["oci_sync_source_ready", labels] == (one["conditions"][0]["status"] == "True")
        assert scraped["oci_sync_source_consecutive_failures", labels] == one["consecutive_failures"]
        assert scraped["oci_sync_source_info", labels | {("artifact", HOSTILE), ("worker", "w")}] == 1
        assert scraped.get(("oci_sync_source_files", labels)) == one["files"]
    for result, count in one["ticks"].items():
        assert scraped["oci_sync_ticks_total", labels | {("result", result)}] == count
    errors = {("class", "RegistryError"), ("reason", "NotFound")}
    assert scraped.get(("oci_sync_errors_total", labels | errors), 0) == one["ticks"].get("error", 0)


def test_every_defined_metric_can_be_scraped_under_its_own_name() -> None:
    status, telemetry = Status("w", NOW), Telemetry()
    status.kafka_answered(NOW)
    status.register_source(SOURCE, NOW, artifact="a", tag="t", partition=0, interval=timedelta(seconds=30))
    status.partition_state(0, NOW, PartitionState.RUNNING)
    status.source_committed(SOURCE, NOW, Delivered("sha256:a", 7, "p", NOW), timedelta(seconds=1))
    status.source_failed(SOURCE, NOW, RegistryError(reason="NotFound", doing="a", cause="b", remedy="c"), None)
    status.register_sink(SinkId("flows", "kv"), NOW, topic="t")
    status.sink_lag(SinkId("flows", "kv"), NOW, 0)
    status.sink_applied(SinkId("flows", "kv"), NOW, "sha256:a", puts=1)
    telemetry.build("0.1.0", "2.12", "3.11")
    telemetry.observe_tick("flows", {"resolve": 0.04})
    telemetry.records_produced("flows", "pull", {"added": 2}, 900)
    telemetry.transaction("committed", 0.2)
    telemetry.registry_request("r", "HEAD", 200, 0.1)
    telemetry.rate_limit("r", 90, 100)
    telemetry.blob_bytes("r", 10)
    telemetry.rebalanced()
    telemetry.restored(0.5)

    names = {name for name, _ in scrape(status, telemetry, NOW)}

    expected = {m.name if m.kind != "histogram" else f"{m.name}_bucket" for m in METRICS}
    assert expected <= names


def test_a_histogram_is_cumulative_and_complete() -> None:
    telemetry = Telemetry()
    for seconds in (0.001, 0.04, 10_000):
        telemetry.observe_tick("flows", {"fetch": seconds})

    scraped = scrape(Status("w", NOW), telemetry, NOW)

    labels = frozenset({("flow", "flows"), ("phase", "fetch")})
    bucket = "oci_sync_tick_duration_seconds_bucket"
    assert scraped[bucket, labels | {("le", "0.005")}] == 1
    assert scraped[bucket, labels | {("le", "0.05")}] == 2
    assert scraped[bucket, labels | {("le", "600.0")}] == 2
    assert scraped[bucket, labels | {("le", "+Inf")}] == 3
    assert scraped["oci_sync_tick_duration_seconds_count", labels] == 3
    assert scraped["oci_sync_tick_duration_seconds_sum", labels] == 10_000.041


def test_openmetrics_is_given_to_those_who_ask() -> None:
    metrics = Metrics(Status("w", NOW), Telemetry(), lambda: NOW)

    body, content_type = metrics.exposition("application/openmetrics-text; version=1.0.0")

    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
