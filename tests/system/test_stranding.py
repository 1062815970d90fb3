"""Members of groups whose brokers are, for a moment, named by nobody: each comes back, by a new client if need be.

Whether a client is stranded by it is a race inside librdkafka, lost by about one in seven; so there are many.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from time import monotonic

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from connector.errors import OutputError
from connector.kafka.clients import Clients
from connector.kafka.group_feed import GroupFeed
from connector.kafka.groups import group_members
from connector.kafka.ownership import Ownership
from connector.kafka.record import Record
from connector.kafka.topics import Topics
from tests.chaos.brokerless import BrokerlessLink
from tests.chaos.network import fronted_broker
from tests.system.servers import Broker, start_broker

pytestmark = [pytest.mark.system, pytest.mark.long]

TOPIC = "offsets"
CONTROL = b"request."
MEMBERS = 15
SESSION = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000}


class Owner:
    """Notes when it was last told of a record."""

    def __init__(self) -> None:
        self.joined = asyncio.Event()
        self.heard: set[bytes] = set()

    async def assigned(self, partitions: frozenset[int]) -> None:
        self.joined.set()

    async def revoked(self, partitions: frozenset[int], *, lost: bool) -> None:
        pass

    async def group_failed(self, error: OutputError, *, fatal: bool) -> None:
        assert not fatal, error

    def polled(self) -> None:
        pass

    def noticed(self, record: Record) -> None:
        self.heard.add(record.value or b"")


class Reader:
    """Reads as a sink does, and passes over errors as its pipeline does."""

    def __init__(self, feed: GroupFeed) -> None:
        self.joined = asyncio.Event()
        self.heard: set[bytes] = set()
        self._feed = feed

    async def run(self) -> None:
        while True:
            try:
                polled = await self._feed.poll(100, 0.1)
            except OutputError:
                await asyncio.sleep(0.5)
                continue
            if polled.positions:
                self.joined.set()
            self.heard |= {record.value or b"" for record in polled.records}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[Broker, BrokerlessLink]]:
    """A broker, and the link in front of it."""
    with ExitStack() as ends:
        broker, front, behind = fronted_broker(tmp_path / "kafka", ends, {})
        link = ends.enter_context(BrokerlessLink(front, behind))
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.create_topics([NewTopic(TOPIC, 1)])[TOPIC].result(20)
        yield broker, link


@pytest.fixture
async def clients(broker: tuple[Broker, BrokerlessLink]) -> AsyncIterator[list[Clients]]:
    """The clients of so many processes."""
    async with AsyncExitStack() as ends:
        yield [
            await ends.enter_async_context(Clients({"bootstrap.servers": broker[1].address, **SESSION}))
            for _ in range(MEMBERS)
        ]


async def _say(broker: Broker, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(TOPIC, key=CONTROL + value, value=value)
    assert await asyncio.to_thread(producer.flush, 10) == 0


async def _hide_brokers(link: BrokerlessLink, clients: list[Clients]) -> None:
    """As long as a fenced broker needs, while each client asks as a worker's do."""
    link.brokers_hidden.set()
    admins = [Topics(one) for one in clients]
    for _ in range(3):
        await asyncio.gather(*(admin.describe([TOPIC]) for admin in admins), return_exceptions=True)
        await asyncio.sleep(1)
    link.brokers_hidden.clear()
    assert link.hidden_answers > MEMBERS


async def _all_hear(broker: Broker, members: list[Owner] | list[Reader]) -> None:
    deadline = monotonic() + 60
    said: set[bytes] = set()
    while not all(member.heard & said for member in members):
        assert monotonic() < deadline, (
            f"{sum(not member.heard & said for member in members)} of {len(members)} hear nothing"
        )
        said.add(b"%d" % len(said))
        await _say(broker, b"%d" % (len(said) - 1))
        await asyncio.sleep(1)


async def test_every_owner_comes_back(broker: tuple[Broker, BrokerlessLink], clients: list[Clients]) -> None:
    kafka, link = broker
    async with AsyncExitStack() as ends:
        owners = [Owner() for _ in clients]
        for number, (one, owner) in enumerate(zip(clients, owners, strict=True)):
            ownership = Ownership(one, topic=TOPIC, group=f"g{number}", owner=owner, control_prefix=CONTROL)
            await ends.enter_async_context(ownership)
        async with asyncio.timeout(30):
            await asyncio.gather(*(owner.joined.wait() for owner in owners))

        await _hide_brokers(link, clients)

        await _all_hear(kafka, owners)


async def test_every_sink_member_comes_back(broker: tuple[Broker, BrokerlessLink], clients: list[Clients]) -> None:
    kafka, link = broker
    async with AsyncExitStack() as ends, asyncio.TaskGroup() as running:
        feeds = [GroupFeed(one, group=f"g{number}", topics=[TOPIC]) for number, one in enumerate(clients)]
        readers = [Reader(await ends.enter_async_context(feed)) for feed in feeds]
        tasks = [running.create_task(reader.run()) for reader in readers]
        async with asyncio.timeout(30):
            await asyncio.gather(*(reader.joined.wait() for reader in readers))

        await _hide_brokers(link, clients)

        await _all_hear(kafka, readers)
        for task in tasks:
            task.cancel()


async def test_an_admin_client_that_asked_all_through_a_freeze_is_answered_after_it(tmp_path: Path) -> None:
    with ExitStack() as ends:
        kafka = start_broker(tmp_path / "kafka", ends)
        async with Clients({"bootstrap.servers": kafka.bootstrap}) as clients:
            admin = Topics(clients).admin
            assert await group_members(admin, "g") == []
            kafka.pause()
            frozen_until = monotonic() + 65  # longer than a request of the client lives
            while monotonic() < frozen_until:
                with pytest.raises(OutputError, match="_TIMED_OUT"):
                    await group_members(admin, "g")
            kafka.resume()
            async with asyncio.timeout(40):
                while True:
                    with suppress(OutputError):
                        assert await group_members(admin, "g") == []
                        break
