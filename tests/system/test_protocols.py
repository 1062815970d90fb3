"""Every way to be a member of the group: eager, cooperative, the new protocol, static; the same promises under each."""

from pathlib import Path
from typing import Any

import pytest

from tests.system.product import Product, assert_whole, pulls_of, table_of
from tests.system.servers import Broker, Oras, Registry

pytestmark = pytest.mark.system

MEMBERSHIPS: dict[str, dict[str, Any]] = {
    "eager": {},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}


def make(
    folder: Path, kafka: Broker, registry: Registry, name: str, properties: dict[str, Any], instance: str | None = None
) -> Product:
    timing = {} if "group.protocol" in properties else {"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000}
    worker: dict[str, Any] = {"kafka": {"bootstrap.servers": kafka.bootstrap, **timing, **properties}}
    if instance is not None:
        worker["group_instance_id"] = instance
    artifact = f"{registry.host}/{name}/flows:prod"
    return Product(folder, kafka.bootstrap, artifact, name, interval="300ms", worker=worker)


@pytest.mark.parametrize("membership", MEMBERSHIPS)
def test_a_release_comes_once_while_members_join_and_leave(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str, membership: str
) -> None:
    first = make(tmp_path / "1", kafka, registry, unique, MEMBERSHIPS[membership])
    second = make(tmp_path / "2", kafka, registry, unique, MEMBERSHIPS[membership])
    oras.push(first.artifact, {"a": "1"})
    with first.running() as one:
        first.wait_for_pulls(1)
        with second.running() as other:
            oras.push(first.artifact, {"a": "2"})
            first.wait_for_pulls(2, seconds=60)
            assert one.end() == 0, one.text()
            oras.push(first.artifact, {"a": "3"})
            first.wait_for_pulls(3, seconds=60)
            with first.running("--log-level", "debug") as third:
                third.wait_for("assigned [0-9]+ partitions")
                oras.push(first.artifact, {"a": "4"})
                first.wait_for_pulls(4, seconds=60)
                assert third.end() == 0, third.text()
            assert other.end() == 0, other.text()

    pulls = pulls_of(first.read())
    assert [table_of(pull) for pull in pulls] == [{"a": str(number)} for number in (1, 2, 3, 4)]
    for pull in pulls:
        assert_whole(pull)


def test_a_static_member_that_was_killed_goes_on_without_a_rebalance(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = make(tmp_path, kafka, registry, unique, {"session.timeout.ms": 45_000}, instance="pod-0")
    oras.push(product.artifact, {"a": "1"})
    with product.running() as killed:
        product.wait_for_pulls(1)
        killed.process.kill()
        killed.process.wait()
    oras.push(product.artifact, {"a": "2"})

    with product.running() as back:
        # Far below the session time-out, which a member without a name would have to wait for.
        product.wait_for_pulls(2, seconds=25)
        assert back.end() == 0

    assert len(pulls_of(product.read())) == 2
