"""The page as text."""

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from connector.errors import ConfigError, LayerError
from connector.server.status_page import render, short_duration
from connector.status import Delivered, PartitionState, SinkId, SourceId, Status

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
SOURCE = SourceId("flows", "pull")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-5, "0s"), (0, "0s"), (59, "59s"), (60, "1m"), (7_199, "1h"), (90_000, "1d")]
)
def test_a_duration_is_shown_in_its_largest_unit(seconds: float, shown: str) -> None:
    assert short_duration(seconds) == shown


def test_the_page_of_a_worker_with_nothing_is_still_a_page() -> None:
    assert "carries no source" in render(Status("w", NOW).view(NOW))


def test_the_page_shows_sources_sinks_history_and_bad_flow_files_and_closes_what_it_opens() -> None:
    status = Status("w", NOW)
    status.register_source(SOURCE, NOW, artifact="r/o:prod", tag="prod", partition=0)
    status.partition_state(0, NOW, PartitionState.RUNNING)
    delivered = Delivered("sha256:a", 206, "p", NOW)
    status.source_committed(SOURCE, NOW, delivered, timedelta(seconds=1), NOW + timedelta(seconds=28))
    status.register_sink(SinkId("flows", "kv"), NOW, topic="oci.flows")
    status.sink_failed(SinkId("flows", "kv"), NOW, LayerError(reason="NotText", doing="a", cause="b", remedy="c"), None)
    status.flow_failed("bad.yaml", NOW, ConfigError(reason="BadYaml", doing="a", cause="b", remedy="c"))

    page = render(status.view(NOW + timedelta(minutes=2)))

    for part in ("206", "prod@sha256:a", "2m", "NotText", "bad.yaml", "Last pulls of flows/pull", 'class="True"'):
        assert part in page
    balance = _Balance()
    balance.feed(page)
    assert balance.open == []


class _Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
