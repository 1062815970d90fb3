"""Workers that die or freeze: at every named point of a tick, at random times, and frozen past their session."""

import signal
from collections.abc import Sequence
from functools import partial
from time import sleep

from connector.faults import POINTS
from tests.chaos.report import Row
from tests.chaos.scene import Scene
from tests.system.product import Running

SOURCE_POINTS = POINTS[: POINTS.index("revoked") + 1]
IN_A_TRANSACTION = ("transaction_begun", "records_sent", "offsets_sent")
STATIC = {"OCI_SYNC_GROUP_INSTANCE_ID": "pod-0"}
# From the start of a process to its first commit takes 1 s on an idle machine, and up to 4 on a busy one.
_RANDOM_SECONDS = (0.7, 4.0)


def killed(scene: Scene, name: str, times: int, *, static: bool = False) -> Row:
    """One worker after another is killed; each finds what its predecessors left. Every fifth time one stays well.

    `static`: all have one group.instance.id, so that the next takes over at once instead of after the session.
    """
    env = STATIC if static else {}
    deck: list[str] = []
    for number in range(times):
        scene.push()
        if not deck:
            deck = [*SOURCE_POINTS, "random", "random"]
            scene.rng.shuffle(deck)
        _kill_one(scene, deck.pop(), env)
        if number % 5 == 4:
            _one_stays_well(scene, env)
    scene.start(env=env)
    return scene.judge(name, times)


def frozen(scene: Scene, name: str, points: Sequence[str], *, static: bool = False) -> Row:
    """The zombie: frozen at a point, its partition taken over and a newer release committed, then woken.

    With one instance id the heir fences the zombie's membership at once, and the zombie ends when it wakes. Otherwise
    the session must run out, and the zombie comes to itself without a restart: when the heir leaves it takes over.
    """
    env = STATIC if static else {}
    for point in points:
        scene.push()
        zombie = scene.start(f"stop:{point}", env=env)
        scene.await_frozen(zombie)
        scene.push()
        heir = scene.start(env=env)
        scene.await_newest()
        zombie.process.send_signal(signal.SIGCONT)
        scene.push()
        scene.await_newest()
        if static:
            scene.await_that(f"the zombie of {point} ends", partial(_has_ended, zombie), 60)
        else:
            heir.process.terminate()
            heir.process.wait(30)
        scene.push()
        scene.await_newest()
        scene.end_workers()
    scene.push()
    scene.start()
    return scene.judge(name, len(points))


def rolling_restart(scene: Scene, name: str, rounds: int, *, static: bool) -> Row:
    """Three workers; one after the other ends in good order and comes back, while releases are pushed."""
    envs = [{"OCI_SYNC_GROUP_INSTANCE_ID": f"pod-{number}"} if static else {} for number in range(3)]
    scene.push()
    workers = [scene.start(env=env) for env in envs]
    scene.await_newest()
    for _ in range(rounds):
        for number, env in enumerate(envs):
            scene.push()
            # One that was still starting has no handler yet and has done nothing: it may end by the signal itself.
            code = workers[number].end()
            if code != 0 and workers[number].text():
                raise RuntimeError(f"a worker ended with {code} on SIGTERM:\n{workers[number].text()}")
            workers[number] = scene.start(env=env)
            scene.await_newest()
    return scene.judge(name, 3 * rounds)


def rebalance_storm(scene: Scene, name: str, times: int) -> Row:
    """Workers join and leave, in good order or not, faster than a session; every push must still arrive."""
    scene.push()
    scene.start()
    scene.await_newest()
    for number in range(times):
        guest = scene.start()
        scene.push()
        sleep(scene.rng.uniform(0.5, 2.5))
        if number % 3 == 2:
            guest.process.kill()
        else:
            guest.process.terminate()
    return scene.judge(name, times, seconds=60)


def _kill_one(scene: Scene, point: str, env: dict[str, str]) -> None:
    if point == "random":
        worker = scene.start(env=env)
        sleep(scene.rng.uniform(*_RANDOM_SECONDS))
        worker.process.kill()
    elif point == "revoked":
        worker = scene.start("kill:revoked", env=env)
        scene.await_newest()
        worker.process.terminate()
    else:
        worker = scene.start(f"kill:{point}", env=env)
    scene.await_death(worker)
    if worker.process.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the worker was to be killed at {point} and ended with {worker.process.returncode}")


def _one_stays_well(scene: Scene, env: dict[str, str]) -> None:
    worker = scene.start(env=env)
    scene.await_newest()
    worker.process.terminate()
    worker.process.wait(40)


def _has_ended(worker: Running) -> bool:
    return worker.process.poll() is not None
