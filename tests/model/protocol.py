"""Two workers, one partition, every order of events: who owns, who writes, what becomes visible. Pure.

What the model has: the group coordinator (members, generation, eager rebalance), the transaction coordinator (producer
epochs, one open transaction a worker, its time-out), a network that delays and loses the request that ends a
transaction and its answer, workers that crash, are expelled without noticing (a frozen process is one that takes no
step), restore, pull and commit. Nothing bounds rebalances, crashes, epochs or time-outs: a generation or an epoch is
only ever "the current one" or "an old one", and that makes the state space finite. Releases are bounded by RELEASES.

A worker's partition walks through `connector.kafka.membership.TRANSITIONS` itself (by `step`), so the table that is
checked is the table that runs. `Rules` names the guards of the protocol; a test takes each away and expects harm.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from connector.kafka.membership import Event, State, step

RELEASES = 2
"""Digests 1, 2, … as the tag moves; 0 is none. Two show an older digest after a newer one."""


class Phase(IntEnum):
    """How far a worker's pull has come."""

    IDLE = 0
    RESOLVED = 1
    READY = 2
    SENT = 3
    BOUND = 4
    ASKED = 5
    UNKNOWN = 6


class Held(IntEnum):
    """A generation, an epoch or a request: none, the coordinator's current one, or an old one."""

    NONE = 0
    CURRENT = 1
    STALE = 2


@dataclass(frozen=True, slots=True)
class Rules:
    """The guards. All on is the code."""

    generation_fence: bool = True
    init_on_takeover: bool = True
    restore_to_high_watermark: bool = True
    one_producer_a_pull: bool = True
    read_back: bool = True
    restore_when_unsettled: bool = True


class Worker(NamedTuple):
    """One process. `memory` is the digest it believes committed, `pull` the one it is about to commit."""

    state: State = State.UNASSIGNED
    generation: Held = Held.NONE
    memory: int = 0
    phase: Phase = Phase.IDLE
    pull: int = 0
    producer: Held = Held.NONE


class Transaction(NamedTuple):
    """An open transaction: the digest of its records, and whether the group offset was accepted into it."""

    digest: int
    bound: bool


Both = tuple[bool, bool]


class World(NamedTuple):
    """Everything. `committed` is the newest visible release and who wrote it; `harm` a promise that was broken."""

    registry: int = 1
    workers: tuple[Worker, Worker] = (Worker(), Worker())
    members: Both = (False, False)
    joined: Both = (False, False)
    rebalancing: bool = False
    owner: int = -1
    open: tuple[Transaction | None, Transaction | None] = (None, None)
    ending: tuple[Held, Held] = (Held.NONE, Held.NONE)
    committed: tuple[int, int] = (0, -1)
    harm: str = ""


Step = tuple[str, World]


def steps(world: World, rules: Rules) -> Iterator[Step]:
    """Every event that may happen next, with its name and the world after it."""
    if world.registry < RELEASES:
        yield "the tag moves", world._replace(registry=world.registry + 1)
    if world.rebalancing and all(world.joined[who] or not world.members[who] for who in (0, 1)):
        yield from _rebalanced(world)
    for who in (0, 1):
        for name, after in _steps_of(world, who, rules):
            yield f"worker {who}: {name}", after


def broken(world: World) -> str:
    """The promise that does not hold in this world, empty where all hold."""
    if world.harm:
        return world.harm
    for who, worker in enumerate(world.workers):
        knows = worker.state is State.RUNNING and worker.phase < Phase.ASKED
        if knows and _is_owner(world, who) and worker.memory != world.committed[0]:
            return "the owner's restored state is not the committed state"
    return ""


def is_settled(world: World) -> bool:
    """Whether the newest release is visible and its owner at rest: what every world must still be able to become."""
    owner = world.owner
    if owner < 0 or world.committed[0] != world.registry:
        return False
    worker = world.workers[owner]
    return worker.state is State.RUNNING and worker.phase is Phase.IDLE and worker.memory == world.registry


def _steps_of(world: World, who: int, rules: Rules) -> Iterator[Step]:
    yield from _membership(world, who)
    yield from _network(world, who)
    worker = world.workers[who]
    if worker.state is State.RESTORING:
        yield from _restoring(world, who, rules)
    elif worker.state is State.RUNNING:
        yield from _running(world, who, rules)
    elif worker.state is State.DRAINING:
        yield "drains", _drained(world, who)


# ---- the group ---------------------------------------------------------------------------------------------------


def _membership(world: World, who: int) -> Iterator[Step]:
    worker = world.workers[who]
    if worker != Worker():
        # Its transaction, its request under way and its membership outlive it.
        yield "crashes", _with(world, who, Worker())
    if world.members[who]:
        yield "is expelled", _expelled(world, who)
        if world.rebalancing and not world.joined[who]:
            if worker.state is State.UNASSIGNED and worker.generation is not Held.NONE:
                yield "rejoins", world._replace(joined=_set(world.joined, who, True))
            elif worker.state in (State.RESTORING, State.RUNNING):
                yield "is revoked", _happened(world, who, Event.REVOKED)
        if not world.rebalancing and worker.state is State.UNASSIGNED and worker.generation is Held.STALE:
            learnt = _with(world, who, worker._replace(generation=Held.CURRENT))
            yield "learns its assignment", _happened(learnt, who, Event.ASSIGNED) if world.owner == who else learnt
    elif worker.state is State.UNASSIGNED:
        yield (
            "joins",
            _with(
                world._replace(
                    members=_set(world.members, who, True), joined=_set(world.joined, who, True), rebalancing=True
                ),
                who,
                worker._replace(generation=Held.STALE),
            ),
        )
    elif worker.state in (State.RESTORING, State.RUNNING):
        yield "hears that it was expelled", _happened(world, who, Event.LOST)


def _rebalanced(world: World) -> Iterator[Step]:
    """A new generation: everybody's is old until it learns; any member may be the owner."""
    first, second = (
        worker._replace(generation=Held.STALE) if worker.generation is Held.CURRENT else worker
        for worker in world.workers
    )
    for owner in (0, 1):
        if world.members[owner]:
            yield (
                f"the group gives the partition to worker {owner}",
                world._replace(workers=(first, second), owner=owner, rebalancing=False, joined=(False, False)),
            )


def _expelled(world: World, who: int) -> World:
    """The session ran out; the worker itself does not know yet."""
    worker = world.workers[who]
    generation = Held.STALE if worker.generation is Held.CURRENT else worker.generation
    other_is_member = world.members[1 - who]
    return _with(world, who, worker._replace(generation=generation))._replace(
        members=_set(world.members, who, False),
        joined=_set(world.joined, who, False) if other_is_member else (False, False),
        owner=-1 if world.owner == who else world.owner,
        rebalancing=other_is_member,
    )


def _is_owner(world: World, who: int) -> bool:
    return world.owner == who and world.members[who] and world.workers[who].generation is Held.CURRENT


# ---- the worker --------------------------------------------------------------------------------------------------


def _restoring(world: World, who: int, rules: Rules) -> Iterator[Step]:
    worker = world.workers[who]
    if rules.init_on_takeover and worker.producer is Held.NONE:
        yield "initialises a producer", _initialised(world, who)
        return
    if worker.producer is Held.STALE:
        yield "is fenced while it restores", _doubt(world, who)
    # A read_committed reader stands before an open transaction; one that stops there has not seen the end.
    if rules.restore_to_high_watermark and any(world.open):
        return
    restored = _with(world, who, worker._replace(memory=world.committed[0]))
    yield "has restored", _happened(restored, who, Event.RESTORED)


def _running(world: World, who: int, rules: Rules) -> Iterator[Step]:
    worker = world.workers[who]
    if worker.phase <= Phase.READY and worker.producer is not Held.NONE:
        idle = worker._replace(phase=Phase.IDLE, pull=0, producer=Held.NONE)
        yield "ends its tick without a commit", _with(world, who, idle)
    match worker.phase:
        case Phase.IDLE if worker.memory != world.registry:
            yield "sees a new digest", _with(world, who, worker._replace(phase=Phase.RESOLVED, pull=world.registry))
        case Phase.RESOLVED:
            ready = world if worker.producer is not Held.NONE else _initialised(world, who)
            yield "has a producer ready", _with(ready, who, ready.workers[who]._replace(phase=Phase.READY))
        case Phase.READY:
            if worker.producer is Held.STALE:
                yield "is fenced while it sends", _doubt(world, who)
            else:
                opened = world._replace(open=_set(world.open, who, Transaction(worker.pull, False)))
                yield "sends its records", _with(opened, who, worker._replace(phase=Phase.SENT))
        case Phase.SENT:
            yield _bind(world, who, rules)
        case Phase.BOUND:
            asked = world._replace(ending=_set(world.ending, who, worker.producer))
            yield "asks to commit", _with(asked, who, worker._replace(phase=Phase.ASKED))
        case Phase.ASKED:
            yield "gets no answer in time", _with(world, who, worker._replace(phase=Phase.UNKNOWN))
        case Phase.UNKNOWN:
            yield from _settle(world, who, rules)
        case _:
            pass


def _bind(world: World, who: int, rules: Rules) -> Step:
    """The group offset goes into the transaction, if the broker takes it."""
    worker = world.workers[who]
    transaction = world.open[who]
    if worker.producer is Held.STALE or transaction is None:
        return "is fenced at the offset", _doubt(world, who)
    is_member = world.members[who] and worker.generation is Held.CURRENT
    if rules.generation_fence and not is_member:
        return "is refused at the offset", _doubt(world._replace(open=_set(world.open, who, None)), who)
    bound = world._replace(open=_set(world.open, who, transaction._replace(bound=True)))
    return "binds the offset", _with(bound, who, worker._replace(phase=Phase.BOUND))


def _settle(world: World, who: int, rules: Rules) -> Iterator[Step]:
    """The outcome of a commit is unknown: a new producer ends the old transaction, then the offset tells."""
    worker = world.workers[who]
    if not rules.one_producer_a_pull:
        aborted = world._replace(open=_set(world.open, who, None))
        yield "aborts and goes on with its producer", _with(aborted, who, worker._replace(phase=Phase.READY))
        return
    yield "finds that it may be no owner", _doubt(world, who)
    not_settled = worker._replace(phase=Phase.IDLE, producer=Held.NONE)
    failed = _doubt(world, who) if rules.restore_when_unsettled else _with(world, who, not_settled)
    yield "cannot reach a broker to settle", failed
    settled = _initialised(world, who)
    if any(settled.open):
        return
    took_place = rules.read_back and settled.committed == (worker.pull, who)
    memory = worker.pull if took_place else worker.memory
    told = settled.workers[who]._replace(phase=Phase.IDLE, memory=memory)
    yield f"reads back that it {'did' if took_place else 'did not'} commit", _with(settled, who, told)


def _drained(world: World, who: int) -> World:
    """Nothing of the partition is written by this worker any more; what it asked for may still arrive."""
    worker = world.workers[who]
    aborts = worker.producer is Held.CURRENT and worker.phase in (Phase.SENT, Phase.BOUND)
    left = world._replace(open=_set(world.open, who, None)) if aborts else world
    rested = Worker(worker.state, worker.generation if world.members[who] else Held.NONE)
    return _happened(_with(left, who, rested), who, Event.DRAINED)


def _doubt(world: World, who: int) -> World:
    """FENCED: throw the producer away, restore again."""
    rested = world.workers[who]._replace(phase=Phase.IDLE, producer=Held.NONE)
    return _happened(_with(world, who, rested), who, Event.FENCED)


# ---- the transaction coordinator and the network -------------------------------------------------------------------


def _initialised(world: World, who: int) -> World:
    """init_transactions with the id that all owners of the partition share: aborts what is open, ends older epochs."""
    workers = [
        worker._replace(producer=Held.STALE) if worker.producer is Held.CURRENT else worker for worker in world.workers
    ]
    workers[who] = workers[who]._replace(producer=Held.CURRENT)
    first, second = (Held.STALE if request is Held.CURRENT else request for request in world.ending)
    return world._replace(workers=(workers[0], workers[1]), open=(None, None), ending=(first, second))


def _network(world: World, who: int) -> Iterator[Step]:
    worker, transaction, request = world.workers[who], world.open[who], world.ending[who]
    if transaction is not None:
        yield "has its transaction timed out", _timed_out(world, who)
    if request is Held.NONE:
        return
    gone = world._replace(ending=_set(world.ending, who, Held.NONE))
    waits = worker.phase is Phase.ASKED
    unanswered = worker._replace(phase=Phase.UNKNOWN) if waits else worker
    yield "has its request lost", _with(gone, who, unanswered)
    if request is Held.STALE or transaction is None:
        yield "has its request refused", _with(gone, who, unanswered)
        return
    done = _commit(gone, who, transaction)
    yield "commits, and the answer is lost", _with(done, who, unanswered)
    if waits:
        knows = worker._replace(phase=Phase.IDLE, memory=worker.pull, producer=Held.NONE)
        yield "commits", _with(done, who, knows)


def _commit(world: World, who: int, transaction: Transaction) -> World:
    before = world.committed[0]
    harm = world.harm
    if not transaction.bound:
        harm = "a transaction was committed without its offset"
    elif transaction.digest == before:
        harm = "a release is committed twice"
    elif transaction.digest < before:
        harm = "an older release follows a newer one"
    return world._replace(open=_set(world.open, who, None), committed=(transaction.digest, who), harm=harm)


def _timed_out(world: World, who: int) -> World:
    """The coordinator aborts a transaction that took too long, and raises the epoch."""
    worker = world.workers[who]
    producer = Held.STALE if worker.producer is Held.CURRENT else worker.producer
    request = Held.STALE if world.ending[who] is Held.CURRENT else world.ending[who]
    return _with(
        world._replace(open=_set(world.open, who, None), ending=_set(world.ending, who, request)),
        who,
        worker._replace(producer=producer),
    )


# ---- values ------------------------------------------------------------------------------------------------------


def _happened(world: World, who: int, event: Event) -> World:
    worker = world.workers[who]
    return _with(world, who, worker._replace(state=step(worker.state, event)))


def _with(world: World, who: int, worker: Worker) -> World:
    return world._replace(workers=_set(world.workers, who, worker))


def _set(pair: tuple, who: int, value: object) -> tuple:  # type: ignore[type-arg]  # a pair of anything stays one
    return (value, pair[1]) if who == 0 else (pair[0], value)
