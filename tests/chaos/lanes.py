"""Which fault runs where: lanes of faults, each on the servers it needs."""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from tests.chaos import kills, machine, outages
from tests.chaos.brokerless import BrokerlessLink
from tests.chaos.cluster import group_coordinator, leader, transaction_coordinator
from tests.chaos.network import Link, Proxies, fronted_broker, proxied_broker
from tests.chaos.report import Row
from tests.chaos.scene import Scene, open_scene
from tests.system.servers import Broker, start_broker, start_cluster

# With group.protocol=consumer the session is the broker's; the default of 45 s would make every takeover take that.
BROKER = {
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "1000",
    "log.cleaner.backoff.ms": "100",
}
_COOPERATIVE = {"partition.assignment.strategy": "cooperative-sticky"}
_CONSUMER = {"group.protocol": "consumer"}

Lane = Callable[["Stage"], Iterator[Row]]


class Stage:
    """Servers that lanes share or have for themselves; `of` gives a lane its own folder and randomness."""

    def __init__(self, folder: Path, ends: ExitStack) -> None:
        self.folder = folder
        self.rng = random.Random(0)
        self._root = folder
        self.ends = ends
        self._lock = threading.Lock()
        self._shared: list[Broker] = []
        self._proxies: list[Proxies] = []

    def of(self, name: str, rng: random.Random) -> "Stage":
        """The same servers for one lane."""
        lane = Stage(self._root / name.replace(" ", "-"), self.ends)
        lane.rng, lane._root = rng, self._root
        lane._lock, lane._shared, lane._proxies = self._lock, self._shared, self._proxies
        return lane

    def broker(self) -> Broker:
        """The broker that nobody hurts."""
        with self._lock:
            if not self._shared:
                self._shared.append(start_broker(self._root / "kafka", self.ends, BROKER))
            return self._shared[0]

    def own_broker(self) -> Broker:
        """A broker for this lane."""
        return start_broker(self.folder / "kafka", self.ends, BROKER)

    def proxies(self) -> Proxies:
        """The proxy process."""
        with self._lock:
            if not self._proxies:
                self._proxies.append(self.ends.enter_context(Proxies(self._root / "toxiproxy")))
            return self._proxies[0]

    def proxied_broker(self) -> tuple[Broker, Link]:
        """A broker for this lane behind a link."""
        return proxied_broker(self.folder / "kafka", self.ends, self.proxies(), BROKER)

    def scene(self, broker: Broker, **options: Any) -> AbstractContextManager[Scene]:
        """A fresh source."""
        return open_scene(self.folder, broker.bootstrap, self.rng, **options)


def lanes(kill_count: int) -> list[tuple[str, Lane]]:
    """All lanes by name, the slowest first."""
    share = max(1, kill_count // 5)
    return [
        ("killed, session of 6 s", _killed({}, share)),
        ("killed, static membership", _killed({}, kill_count - 3 * share, static=True)),
        ("answers lost past every deadline", _answers_lost),
        ("brokers frozen", _frozen_broker),
        ("brokers unnamed", _unnamed),
        ("killed, cooperative", _killed(_COOPERATIVE, share)),
        ("killed, group.protocol consumer", _killed(_CONSUMER, share)),
        ("three brokers", _cluster),
        ("network to the broker", _broker_network),
        ("network to the registry", _registry_network),
        ("frozen, classic", _zombies({})),
        ("frozen, cooperative", _zombies(_COOPERATIVE)),
        ("frozen, group.protocol consumer", _zombies(_CONSUMER)),
        ("frozen, static membership", _zombies({})),
        ("rolling restart", _rolling),
        ("registry", _registry),
        ("rebalance storm", _storm),
        ("machine", _machine),
        ("clock jumps", _clock),
        ("disk full", _disk),
    ]


def _killed(kafka: Mapping[str, str], times: int, *, static: bool = False) -> Lane:
    def lane(stage: Stage) -> Iterator[Row]:
        with stage.scene(stage.broker(), kafka=kafka) as scene:
            yield kills.killed(scene, f"kill -9, {_named(kafka, static)}", times, static=static)

    return lane


def _zombies(kafka: Mapping[str, str]) -> Lane:
    def lane(stage: Stage) -> Iterator[Row]:
        static = "static" in stage.folder.name
        with stage.scene(stage.broker(), kafka=kafka) as scene:
            points = ("resolved", *kills.IN_A_TRANSACTION)
            yield kills.frozen(scene, f"frozen past its session, {_named(kafka, static)}", points, static=static)

    return lane


def _frozen_broker(stage: Stage) -> Iterator[Row]:
    broker = stage.own_broker()
    with stage.scene(broker) as scene:
        yield outages.broker_frozen(scene, broker)


def _unnamed(stage: Stage) -> Iterator[Row]:
    broker, front, behind = fronted_broker(stage.folder / "kafka", stage.ends, BROKER)
    link = stage.ends.enter_context(BrokerlessLink(front, behind))
    with stage.scene(broker, worker_bootstrap=link.address) as scene:
        yield outages.brokers_unnamed(scene, link)


def _answers_lost(stage: Stage) -> Iterator[Row]:
    broker, link = stage.proxied_broker()
    # A session longer than the outage: the worker keeps its partition, and only the commit's outcome is in doubt.
    session = {"session.timeout.ms": 300_000}
    with stage.scene(broker, worker_bootstrap=link.address, kafka=session) as scene:
        yield outages.answers_lost_past_every_deadline(scene, link)


def _broker_network(stage: Stage) -> Iterator[Row]:
    broker, link = stage.proxied_broker()
    for name, fault in outages.FAULTS.items():
        with stage.scene(broker, worker_bootstrap=link.address) as scene:
            yield outages.broker_link(scene, link, name, fault)


def _registry_network(stage: Stage) -> Iterator[Row]:
    broker, proxies = stage.broker(), stage.proxies()
    for name, fault in outages.FAULTS.items():
        links: list[Link] = []

        def linked(port: int, links: list[Link] = links) -> str:
            links.append(proxies.link(port))
            return links[0].address

        with stage.scene(broker, registry_link=linked) as scene:
            yield outages.registry_link(scene, links[0], name, fault)


def _cluster(stage: Stage) -> Iterator[Row]:
    cluster = start_cluster(stage.folder / "cluster", stage.ends)
    bootstrap = cluster.bootstrap
    targets: dict[str, Callable[[Scene], int]] = {
        "leader killed in a transaction": lambda scene: leader(bootstrap, scene.product.topic),
        "transaction coordinator killed": lambda scene: transaction_coordinator(bootstrap, scene),
        "group coordinator killed": lambda scene: group_coordinator(bootstrap, scene),
        "transaction coordinator frozen": lambda scene: transaction_coordinator(bootstrap, scene),
    }
    for name, target in targets.items():
        cluster.heal()
        with open_scene(stage.folder, bootstrap, stage.rng) as scene:
            yield outages.node_lost(scene, cluster, target, f"three brokers: {name}", freeze="frozen" in name)


def _rolling(stage: Stage) -> Iterator[Row]:
    for static in (False, True):
        with stage.scene(stage.broker()) as scene:
            yield kills.rolling_restart(scene, f"rolling restart, {_named({}, static)}", 1, static=static)


def _storm(stage: Stage) -> Iterator[Row]:
    with stage.scene(stage.broker()) as scene:
        yield kills.rebalance_storm(scene, "rebalance storm", 10)


def _registry(stage: Stage) -> Iterator[Row]:
    with stage.scene(stage.broker()) as scene:
        yield outages.registry_flaps(scene, 40)
    with stage.scene(stage.broker()) as scene:
        yield outages.push_storm(scene, 60)


def _machine(stage: Stage) -> Iterator[Row]:
    with stage.scene(stage.broker()) as scene:
        yield machine.offsets_compacted(scene, stage.broker().bootstrap, 10)
    with stage.scene(stage.broker()) as scene:
        yield machine.two_groups(scene)


def _clock(stage: Stage) -> Iterator[Row]:
    with stage.scene(stage.broker()) as scene:
        yield machine.clock_jumps(scene, stage.folder / "clock")


def _disk(stage: Stage) -> Iterator[Row]:
    with stage.scene(stage.broker()) as scene:
        yield machine.disk_full(scene, stage.folder / "small")


def _named(kafka: Mapping[str, str], static: bool) -> str:
    if static:
        return "static membership"
    return {"consumer": "group.protocol consumer"}.get(
        kafka.get("group.protocol", ""), "cooperative" if "partition.assignment.strategy" in kafka else "classic"
    )
