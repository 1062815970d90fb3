"""Links and servers that fail: worker to broker, worker to registry, one way, slow, cut midway; brokers frozen."""

import signal
from collections.abc import Callable
from time import sleep

from aiohttp import web

from tests.chaos.brokerless import BrokerlessLink
from tests.chaos.network import Link
from tests.chaos.report import Row
from tests.chaos.scene import Scene
from tests.system.servers import Broker, Cluster

# Longer than a session (6 s) and than the client's own request time-outs would let pass unnoticed.
_LONG_SECONDS = 8.0
# The transaction's time-out is 60 s, settling it takes 30 more, and asking the cluster 15.
PAST_EVERY_DEADLINE_SECONDS = 110.0
_PAST_TRANSACTION_SECONDS = 70.0
# A stop signal returns before the last thread of a broker stands still, and a commit needs but a few milliseconds.
_STANDSTILL_SECONDS = 1.0
# A frozen broker keeps its connections, so a request to it is given up only after socket.timeout.ms, a minute; and
# librdkafka may wait for a group coordinator that is gone until the transaction's deadline, a minute too (its #5511).
_PAST_REQUESTS_SECONDS = 150.0
_UNNAMED_TIMES = 6
_UNNAMED_SECONDS = 3.0

Fault = Callable[[Link], None]

FAULTS: dict[str, Fault] = {
    "cut": lambda link: link.cut(),
    "requests lost": lambda link: link.lose("upstream"),
    "answers lost": lambda link: link.lose("downstream"),
    "1 s late": lambda link: link.delay(1000, 300),
    "cut after 3,000 bytes of answers": lambda link: link.cut_after(3_000, "downstream"),
    "reset after 500 ms": lambda link: link.reset(500),
}


def broker_link(scene: Scene, link: Link, name: str, fault: Fault) -> Row:
    """The way to the broker breaks: once in the middle of a transaction, once at rest."""
    scene.push()
    worker = scene.start("stop:records_sent")
    scene.await_frozen(worker)
    fault(link)
    worker.process.send_signal(signal.SIGCONT)
    sleep(_LONG_SECONDS)
    link.heal()
    scene.await_newest(60)
    fault(link)
    scene.push()
    sleep(_LONG_SECONDS)
    link.heal()
    return scene.judge(f"worker to broker: {name}", 2, seconds=60)


def registry_link(scene: Scene, link: Link, name: str, fault: Fault) -> Row:
    """The way to the registry breaks at rest, and again while a large blob comes down."""
    scene.push(size=500_000)
    scene.start()
    scene.await_newest()
    for _ in range(2):
        fault(link)
        scene.push(size=500_000)
        sleep(3)
        link.heal()
        scene.push(size=500_000)
        scene.await_newest(60)
    return scene.judge(f"worker to registry: {name}", 2)


def answers_lost_past_every_deadline(scene: Scene, link: Link) -> Row:
    """The commit takes place, its answer never comes, and the broker cannot be asked either."""
    scene.push()
    worker = scene.start("stop:offsets_sent")
    scene.await_frozen(worker)
    link.lose("downstream")
    worker.process.send_signal(signal.SIGCONT)
    sleep(PAST_EVERY_DEADLINE_SECONDS)
    link.heal()
    scene.await_newest()
    sleep(_LONG_SECONDS)
    scene.push()
    return scene.judge("answers lost past every deadline", 1, seconds=90)


def broker_frozen(scene: Scene, broker: Broker) -> Row:
    """All brokers frozen in the middle of a commit, longer than the transaction's time-out."""
    scene.push()
    worker = scene.start("stop:offsets_sent")
    scene.await_frozen(worker)
    broker.pause()
    sleep(_STANDSTILL_SECONDS)
    worker.process.send_signal(signal.SIGCONT)
    sleep(_PAST_TRANSACTION_SECONDS)
    broker.resume()
    scene.await_newest(90)
    scene.push()
    return scene.judge("all brokers frozen for 70 s during a commit", 1, seconds=90)


def brokers_unnamed(scene: Scene, link: BrokerlessLink) -> Row:
    """Answers to metadata requests name no broker for a moment, again and again, in the middle of a commit and at rest.

    It strands a client of librdkafka once in a while, so three workers go through it six times.
    """
    scene.push()
    worker = scene.start("stop:offsets_sent")
    scene.await_frozen(worker)
    for _ in range(2):
        scene.start()
    worker.process.send_signal(signal.SIGCONT)
    for _ in range(_UNNAMED_TIMES):
        link.brokers_hidden.set()
        # Clients ask when a connection ends: one that just idles does not notice.
        link.cut()
        sleep(_UNNAMED_SECONDS)
        link.brokers_hidden.clear()
        scene.push()
        sleep(_UNNAMED_SECONDS)
    assert link.hidden_answers >= _UNNAMED_TIMES, "no client was told of no broker"
    return scene.judge("no broker is named for 3 s", _UNNAMED_TIMES, seconds=90)


def node_lost(
    scene: Scene, cluster: Cluster, target: Callable[[Scene], int], name: str, *, freeze: bool = False
) -> Row:
    """The broker that `target` names dies (or freezes) in the middle of a transaction and comes back later."""
    scene.push()
    worker = scene.start("stop:records_sent")
    scene.await_frozen(worker)
    node = target(scene)
    (cluster.pause if freeze else cluster.kill)(node)
    sleep(_STANDSTILL_SECONDS)
    worker.process.send_signal(signal.SIGCONT)
    scene.await_newest(_PAST_REQUESTS_SECONDS)
    scene.push()
    scene.await_newest(60)
    (cluster.resume if freeze else cluster.start)(node)
    scene.push()
    return scene.judge(name, 1, seconds=60)


def registry_flaps(scene: Scene, times: int) -> Row:
    """Server errors, rate limits, cut and corrupted blobs, in any order, while releases are pushed."""
    registry = scene.registry
    scene.push()
    scene.start()
    scene.await_newest()

    async def corrupt(request: web.BaseRequest) -> web.StreamResponse:
        whole = await registry._answer(request)
        body = whole.body if isinstance(whole, web.Response) and isinstance(whole.body, bytes) else b""
        return web.Response(status=whole.status, body=body[:-1] + b"?" if body else b"")

    for _ in range(times):
        match scene.rng.randrange(6):
            case 0:
                registry.fail_next(503, on="/manifests/", times=4)
            case 1:
                registry.fail_next(429, {"Retry-After": "1"}, on="HEAD ", times=1)
            case 2:
                registry.cut_after(3, on="/blobs/", times=2)
            case 3:
                registry.answer(corrupt, on="GET ", times=2)
            case 4:
                registry.fail_next(404, code="MANIFEST_UNKNOWN", on="GET ", times=2)
            case _:
                registry.fail_next(500, on="", times=6)
        scene.push()
        sleep(scene.rng.uniform(0.1, 0.6))
    registry.heal()
    return scene.judge("registry flaps", times)


def push_storm(scene: Scene, times: int) -> Row:
    """Releases come faster than ticks, every fourth a roll-back; what is committed is whole, and the last arrives."""
    scene.push()
    scene.start()
    scene.await_newest()
    for number in range(times):
        if number % 4 == 3:
            scene.push_again(scene.releases[-3])
        else:
            scene.push()
        sleep(scene.rng.uniform(0.02, 0.25))
    scene.push()  # not a roll-back: its digest alone tells when the last one has arrived
    return scene.judge("push storm", times)
