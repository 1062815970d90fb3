"""A short walk through `make chaos`: fifteen killed workers and a handful of other faults, judged by its checker."""

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos import kills, outages
from tests.chaos.network import Proxies, proxied_broker
from tests.chaos.report import Row, table
from tests.chaos.scene import Scene, open_scene
from tests.system.servers import Broker

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


def test_ten_killed_workers_of_one_instance_id_leave_no_release_twice_torn_or_lost(scene: Scene) -> None:
    assert_held(kills.killed(scene, "kill -9, static membership", 10, static=True))


def test_five_killed_workers_leave_no_release_twice_torn_or_lost(scene: Scene) -> None:
    assert_held(kills.killed(scene, "kill -9, classic", 5))


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
