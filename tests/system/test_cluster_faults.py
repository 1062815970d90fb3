"""Three brokers, one of which dies in the middle of a transaction: its leader, or one of the two coordinators."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos import cluster, outages
from tests.chaos.scene import Scene, open_scene
from tests.system.servers import Cluster

# librdkafka may wait for a coordinator that is gone until the transaction's deadline of a minute.
pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


@pytest.mark.parametrize(
    "target",
    [
        lambda bootstrap, scene: cluster.leader(bootstrap, scene.product.topic),
        cluster.transaction_coordinator,
        cluster.group_coordinator,
    ],
    ids=["leader", "transaction coordinator", "group coordinator"],
)
def test_a_broker_that_dies_in_a_transaction_costs_no_release_and_doubles_none(
    tmp_path: Path, kafka_cluster: Cluster, target: Callable[[str, Scene], int]
) -> None:
    bootstrap = kafka_cluster.bootstrap
    with open_scene(tmp_path, bootstrap, random.Random(1)) as scene:
        row = outages.node_lost(
            scene, kafka_cluster, lambda scene: target(bootstrap, scene), "a broker of three killed"
        )

    assert row.violations == ()
    assert (row.duplicates, row.losses) == (0, 0)
