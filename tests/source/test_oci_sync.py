"""A tick against a registry that stalls, drips or moves its tag; what is committed goes to a list."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from connector.errors import RegistryError, TickTimeout
from connector.kafka.record import Record
from connector.kafka.transaction import Committed
from connector.layers.extract import ExtractOptions
from connector.oci.blob import Blobs
from connector.oci.hosts import Hosts
from connector.oci.reference import parse_reference
from connector.oci.registry import Registry
from connector.records.encoder import Encoding, build_format
from connector.source.outcome import Pull
from connector.source.source import Source
from connector.source.tasks.oci_sync import OciSync
from tests.fakes.clock import FakeClock
from tests.fakes.registry import FakeRegistry


class Records:
    """Where the records of a tick go."""

    def __init__(self) -> None:
        self.taken: list[Record] = []

    async def prepare(self) -> None:
        return

    async def commit(self, records: Iterable[Record], offset: Record) -> Committed:
        self.taken += [*records, offset]
        return Committed(len(self.taken), 0, 0.0)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest_asyncio.fixture
async def hosts() -> AsyncIterator[Hosts]:
    async with Hosts(clock=FakeClock(), environment_proxies=False) as opened:
        yield opened


def a_tick(hosts: Hosts, artifact: str, spool: Path, timeout: timedelta = timedelta(minutes=1)) -> OciSync:
    source = Source(
        flow="f",
        name="pull",
        reference=parse_reference(artifact),
        platform=None,
        options=ExtractOptions(),
        topic="oci.f",
        topic_partitions=1,
        offsets_topic="offsets",
        offsets_partitions=1,
        offset_key=b"k",
        offset_partition=0,
        settings="s",
        force_pull=False,
        timeout=timeout,
        worker="w",
    )
    registry = Registry(hosts)

    async def no_limit() -> int | None:
        return None

    return OciSync(
        source,
        registry,
        Blobs(registry),
        Encoding(source.topic, build_format("json"), "string", "oci"),
        spool,
        new_pull_id=lambda: "pull-1",
        now_ms=lambda: 1_793_534_400_000,
        new_traceparent=lambda: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        record_limit=no_limit,
    )


async def stall(request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("nobody ends this")


async def test_two_sources_of_one_stalled_reference_both_end_at_their_deadline(
    fake: FakeRegistry, hosts: Hosts, tmp_path: Path
) -> None:
    fake.answer(stall, on="HEAD ", times=100)
    ticks = [a_tick(hosts, fake.reference("org/app"), tmp_path, timedelta(seconds=0.2)) for _ in range(2)]

    ends = await asyncio.wait_for(
        asyncio.gather(*(tick.tick(None, {}, Records()) for tick in ticks), return_exceptions=True), 5
    )

    assert [type(end) for end in ends] == [TickTimeout] * 2


async def test_a_source_outlives_the_shorter_deadline_of_another_with_its_reference(
    fake: FakeRegistry, hosts: Hosts, tmp_path: Path
) -> None:
    fake.publish("org/app", "prod", {"a": b"1"})
    fake.answer(stall, on="HEAD ")
    hasty, patient = (
        a_tick(hosts, fake.reference("org/app"), tmp_path, timedelta(seconds=seconds)) for seconds in (0.2, 30)
    )

    first, second = await asyncio.wait_for(
        asyncio.gather(
            hasty.tick(None, {}, Records()), patient.tick(None, {}, Records()), return_exceptions=True
        ), 10
    )  # fmt: skip

    assert isinstance(first, TickTimeout)
    assert isinstance(second, Pull)


async def test_sources_of_a_revoked_partition_end_at_once_while_their_registry_stalls(
    fake: FakeRegistry, hosts: Hosts, tmp_path: Path
) -> None:
    fake.answer(stall, on="HEAD ", times=100)
    ticks = [
        asyncio.ensure_future(a_tick(hosts, fake.reference("org/app"), tmp_path).tick(None, {}, Records()))
        for _ in range(3)
    ]
    await fake.wait_for("HEAD ")
    for tick in ticks:
        tick.cancel()

    _, pending = await asyncio.wait(ticks, timeout=5)

    assert not pending
    assert all(tick.cancelled() for tick in ticks)


async def test_a_blob_that_drips_ends_at_the_deadline_and_commits_nothing(
    fake: FakeRegistry, hosts: Hosts, tmp_path: Path
) -> None:
    fake.publish("org/app", "prod", {"a": b"1" * 1000})
    fake.drip(1, 0.05)
    records = Records()

    with pytest.raises(TickTimeout, match="timeout"):
        await a_tick(hosts, fake.reference("org/app"), tmp_path, timedelta(seconds=0.3)).tick(None, {}, records)

    assert records.taken == []


async def test_a_tag_that_moved_between_head_and_get_is_resolved_once_more_and_pulled(
    fake: FakeRegistry, hosts: Hosts, tmp_path: Path
) -> None:
    gone = fake.publish("org/app", "prod", {"a": b"old"})
    fake.fail_next(404, on=f"GET /v2/org/app/manifests/{gone.digest}", code="MANIFEST_UNKNOWN", times=100)
    fake.fail_next(200, {"Docker-Content-Digest": gone.digest, "Content-Type": gone.media_type}, on="HEAD ")
    fresh = fake.publish("org/app", "prod", {"a": b"new"})

    pull = await a_tick(hosts, fake.reference("org/app"), tmp_path).tick(None, {}, Records())

    assert isinstance(pull, Pull)
    assert pull.offset.digest == pull.offset.manifest_digest == fresh.digest
    assert [seen.method for seen in fake.requests] == ["HEAD", "GET", "HEAD", "GET", "GET"]


async def test_a_digest_that_stays_away_fails_the_tick_without_waiting(
    fake: FakeRegistry, hosts: Hosts, tmp_path: Path
) -> None:
    gone = fake.publish("org/app", "prod", {"a": b"1"})
    fake.fail_next(404, on="GET /v2/org/app/manifests/", code="MANIFEST_UNKNOWN", times=100)

    with pytest.raises(RegistryError, match=gone.digest) as caught:
        await a_tick(hosts, fake.reference("org/app"), tmp_path).tick(None, {}, Records())

    assert caught.value.reason == "TagMoved"
    assert [seen.method for seen in fake.requests] == ["HEAD", "GET", "HEAD", "GET"]
    assert isinstance(hosts.clock, FakeClock)
    assert hosts.clock.slept == []
