"""A short walk through `make chaos`: fifteen killed workers and a handful of other faults, judged by its checker."""

import asyncio
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from connector.errors import OutputError
from connector.kafka.clients import Clients
from connector.kafka.membership import Fence
from connector.kafka.ownership import Ownership
from connector.kafka.record import Record
from connector.kafka.topics import Topics, offsets_topic
from tests.chaos import kills, machine, outages
from tests.chaos.network import Proxies, proxied_broker
from tests.chaos.report import Row, table
from tests.chaos.scene import Scene, open_scene
from tests.system.servers import Broker
from tests.system.test_fencing import joined

pytestmark = pytest.mark.system


@pytest.fixture
def rng() -> random.Random:
    seed = os.environ.get("OCI_SYNC_CHAOS_SEED") or str(random.SystemRandom().randrange(1_000_000))
    print(f"OCI_SYNC_CHAOS_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def scene(tmp_path: Path, kafka: Broker, rng: random.Random) -> Iterator[Scene]:
    with open_scene(tmp_path, kafka.bootstrap, rng) as opened:
        yield opened


def assert_held(row: Row) -> None:
    print(table([row]))
    assert row.violations == ()
    assert (row.duplicates, row.losses) == (0, 0)


def test_twelve_killed_workers_of_one_instance_id_leave_no_release_twice_torn_or_lost(scene: Scene) -> None:
    assert_held(kills.killed(scene, "kill -9, static membership", 12, static=True))


def test_three_killed_workers_leave_no_release_twice_torn_or_lost(scene: Scene) -> None:
    assert_held(kills.killed(scene, "kill -9, classic", 3))


def test_three_workers_restart_one_after_the_other_and_every_push_arrives(scene: Scene) -> None:
    assert_held(kills.rolling_restart(scene, "rolling restart", 1, static=True))


def test_a_registry_that_flaps_delays_releases_and_breaks_none(scene: Scene) -> None:
    assert_held(outages.registry_flaps(scene, 12))


def test_a_storm_of_pushes_ends_with_the_last_and_every_committed_release_is_whole(scene: Scene) -> None:
    assert_held(outages.push_storm(scene, 20))


def test_answers_of_the_broker_that_are_lost_in_a_transaction_break_nothing(tmp_path: Path, rng: random.Random) -> None:
    with ExitStack() as ends:
        proxies = ends.enter_context(Proxies(tmp_path / "toxiproxy"))
        broker, link = proxied_broker(tmp_path / "kafka", ends, proxies, {})
        scene = ends.enter_context(open_scene(tmp_path, broker.bootstrap, rng, worker_bootstrap=link.address))

        assert_held(outages.broker_link(scene, link, "answers lost", outages.FAULTS["answers lost"]))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_commit_that_took_place_and_could_not_be_asked_about_is_not_done_again(
    tmp_path: Path, rng: random.Random
) -> None:
    """The partition must restore before it goes on: from memory the same release would be committed twice."""
    with ExitStack() as ends:
        proxies = ends.enter_context(Proxies(tmp_path / "toxiproxy"))
        broker, link = proxied_broker(tmp_path / "kafka", ends, proxies, {})
        # A session longer than the outage, else losing the partition would restore it anyway.
        kafka = {"session.timeout.ms": 300_000}
        scene = ends.enter_context(
            open_scene(tmp_path, broker.bootstrap, rng, worker_bootstrap=link.address, kafka=kafka)
        )

        assert_held(outages.answers_lost_past_every_deadline(scene, link))


def test_a_zombie_whose_instance_id_is_another_s_now_ends_and_its_heir_goes_on(scene: Scene) -> None:
    assert_held(kills.frozen(scene, "frozen, static membership", ("resolved",), static=True))


def test_a_full_disk_is_said_and_heals_when_there_is_room(tmp_path: Path, scene: Scene) -> None:
    try:
        assert_held(machine.disk_full(scene, tmp_path / "small"))
    except machine.CannotInject as reason:
        pytest.skip(str(reason))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_clock_that_jumps_in_a_transaction_and_back_below_the_truth_breaks_nothing(
    tmp_path: Path, scene: Scene
) -> None:
    try:
        assert_held(machine.clock_jumps(scene, tmp_path / "clock", (-3600.0,)))
    except machine.CannotInject as reason:
        pytest.skip(str(reason))


class Committing:
    """An owner whose commit proves itself in the middle of a revocation, from a thread of its own, as commits do."""

    def __init__(self) -> None:
        self.ownership: Ownership | None = None
        self.assigned_once = asyncio.Event()
        self.proofs: list[Fence] = []

    async def assigned(self, partitions: frozenset[int]) -> None:
        self.assigned_once.set()

    async def revoked(self, partitions: frozenset[int], *, lost: bool) -> None:
        assert self.ownership is not None
        if not self.proofs:
            async with asyncio.timeout(20):
                self.proofs.append(await asyncio.to_thread(self.ownership.fence, {min(partitions): 0}))

    async def group_failed(self, error: OutputError, *, fatal: bool) -> None:
        raise error

    def noticed(self, record: Record) -> None:
        pass

    def polled(self) -> None:
        pass


async def test_a_commit_under_way_proves_itself_while_its_partition_is_being_revoked(
    kafka: Broker, unique: str
) -> None:
    """The calls of one consumer wait for one another: a proof that asked it would wait for the revocation, and that
    for the commit. Both hung until the worker was expelled, and for ever after."""
    async with Clients({"bootstrap.servers": kafka.bootstrap}) as clients:
        await Topics(clients).ensure([offsets_topic(f"o-{unique}", partitions=2, replication_factor=1)], "create")
        owner = Committing()
        async with Ownership(
            clients, topic=f"o-{unique}", group=f"g-{unique}", owner=owner, control_prefix=b"request."
        ) as owner.ownership:
            async with asyncio.timeout(30):
                await owner.assigned_once.wait()
            # A second member makes the first give up what it holds.
            async with joined(kafka, f"g-{unique}", f"o-{unique}"):
                proofs = list(owner.proofs)

    assert [proof.offsets for proof in proofs] == [((f"o-{unique}", 0, 0),)]
