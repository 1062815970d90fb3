"""One source on one cluster while it is being hurt: releases are pushed, workers come and go, readers watch.

    with open_scene(folder, broker.bootstrap, rng) as scene:
        scene.push()
        worker = scene.start("kill:records_sent")
        ...
        row = scene.judge("killed in a transaction", times=1)

`judge` wants a worker that is well; it waits until the newest release is visible, lets some ticks pass, ends the
workers, and only then reads and checks.
"""

import random
import re
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from tests.chaos.checker import Violation, check, duplicates, longest_stall, pulls_of
from tests.chaos.evidence import Entry, Evidence, Release
from tests.chaos.report import Row
from tests.chaos.watch import Watcher, ends_of, read_all
from tests.fakes.registry import FakeRegistry
from tests.system.product import Product, Running

# The session of the test workers is 6 s, and after it a join, a restore and a pull.
TAKEOVER_SECONDS = 40.0
_QUIET_SECONDS = 15.0
# A worker that is told to end waits for a commit under way: a minute, and a grace.
_END_SECONDS = 100.0
_IDLE_TICKS = 3
_COMMITTED = re.compile(r" committed \d+ files .* digest=(\S+) pull_id=(\S+)\n")
_CRASHED = "Traceback (most recent call last)"
_PATHS = [f"flows/{name}.yaml" for name in "abcdefgh"]


class Scene:
    """See the module's docstring. `releases` are the pushes so far."""

    def __init__(
        self, product: Product, readers_bootstrap: str, registry: FakeRegistry, watcher: Watcher, rng: random.Random
    ) -> None:
        self.product = product
        self.registry = registry
        self.rng = rng
        self.releases: list[Release] = []
        self._bootstrap = readers_bootstrap
        self._watcher = watcher
        self._workers: list[tuple[Running, ExitStack]] = []

    # ---- what happens ------------------------------------------------------------------------------------------

    def push(self, size: int = 0) -> Release:
        """A new release: some files stay, some change, some come and go. `size` adds a file of so many characters."""
        number = len(self.releases) + 1
        files = {"number.txt": f"{number} of {self.product.name}"}
        files |= {path: f"v: {self.rng.randrange(3)}\n" for path in self.rng.sample(_PATHS, self.rng.randrange(1, 6))}
        if size:
            files["large.txt"] = f"{number} " + "x" * size
        return self._publish(files)

    def push_again(self, release: Release) -> Release:
        """The tag goes back to an earlier release."""
        return self._publish(dict(release.files))

    def start(self, fault: str = "", env: Mapping[str, str] | None = None) -> Running:
        """A worker; `fault` is what OCI_SYNC_FAULT says."""
        ends = ExitStack()
        # With the fault handler a worker that hangs says where: see `_ends`.
        asked = {"OCI_SYNC_FAULT": fault, "PYTHONFAULTHANDLER": "1", **(env or {})}
        running = ends.enter_context(self.product.running(env=asked))
        self._workers.append((running, ends))
        return running

    def end_workers(self) -> None:
        """SIGTERM to all that live, and their ends awaited; frozen ones are woken.

        Raises RuntimeError for one that does not end within 100 s; its threads' stacks are in the message.
        """
        workers, self._workers = self._workers, []
        for running, _ in workers:
            if running.process.poll() is None:
                running.process.terminate()
                running.process.send_signal(signal.SIGCONT)  # a frozen process takes no SIGTERM
        stuck = [running for running, _ in workers if not _ends(running)]
        for _, ends in workers:
            ends.close()
        if stuck:
            raise RuntimeError("a worker did not end within 100 s of SIGTERM:\n" + stuck[0].text()[-6000:])

    # ---- what is waited for ------------------------------------------------------------------------------------

    def await_newest(self, seconds: float = TAKEOVER_SECONDS) -> None:
        """Until a reader has seen the newest release."""
        digest = self.releases[-1].digest
        self.await_that(f"release {len(self.releases)} is visible", lambda: self._watcher.saw(digest), seconds)

    def await_death(self, worker: Running, seconds: float = TAKEOVER_SECONDS) -> None:
        """Until a worker with a fault has killed itself."""
        try:
            worker.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the worker did not get to its fault within {seconds} s:\n{worker.text()}") from None

    def await_frozen(self, worker: Running, seconds: float = TAKEOVER_SECONDS) -> None:
        """Until a worker with a fault has frozen itself."""
        self.await_that("the worker froze", lambda: state_of(worker) == "T", seconds)

    def await_that(self, what: str, holds: Callable[[], bool], seconds: float) -> None:
        """Until `holds()`. Raises TimeoutError with the workers' last words."""
        deadline = monotonic() + seconds
        while not holds():
            if monotonic() > deadline:
                last = "\n".join(log.read_text()[-3000:] for log in sorted(self.product.folder.glob("*.log"))[-3:])
                raise TimeoutError(f"not within {seconds:.0f} s: {what}\n{last}")
            sleep(0.05)

    # ---- what is judged ----------------------------------------------------------------------------------------

    def judge(self, fault: str, times: int, *, seconds: float = TAKEOVER_SECONDS, compacted: bool = False) -> Row:
        """Let it become quiet, look, and tell."""
        late: tuple[Violation, ...] = ()
        written = 0
        try:
            self.await_newest(seconds)
            written = self._written_while_idle()
        except TimeoutError as error:
            late = (Violation("I9", str(error)),)
        self.end_workers()
        evidence = self._evidence(written, compacted=compacted)
        pulls, violations = pulls_of(evidence.records), check(evidence) + late
        if _CRASHED in self.logs():
            violations += (Violation("run", "a worker ended by an exception that nobody expected, see its log"),)
        losses = sum(violation.promise == "I9" or "is not there" in violation.how for violation in violations)
        return Row(
            fault=fault,
            times=times,
            releases=len(self.releases),
            duplicates=duplicates(pulls),
            losses=losses,
            stall=longest_stall(evidence.releases, evidence.watched or ()),
            violations=violations,
        )

    def logs(self) -> str:
        """All that the workers said."""
        return "".join(log.read_text() for log in sorted(self.product.folder.glob("*.log")))

    def _publish(self, files: dict[str, str]) -> Release:
        name = f"{self.product.name}/flows"
        published = self.registry.publish(name, "prod", {path: text.encode() for path, text in files.items()})
        release = Release(published.digest, files, monotonic())
        self.releases.append(release)
        return release

    def _written_while_idle(self) -> int:
        before = self._written()
        heads = self.registry.count("HEAD ")
        self.await_that("idle ticks", lambda: self.registry.count("HEAD ") >= heads + _IDLE_TICKS, TAKEOVER_SECONDS)
        return self._written() - before

    def _written(self) -> int:
        """Offsets taken in the topic of records, control records too, and source offsets written."""
        ends = ends_of(self._bootstrap, self.product.topic)
        return sum(high for _, high in ends.values()) + len(self._source_offsets())

    def _source_offsets(self) -> tuple[Entry, ...]:
        """Beside these the topic holds requests and notices of workers, which are outside of any transaction."""
        return tuple(
            entry
            for entry in read_all(self._bootstrap, self.product.offsets_topic)
            if entry.key.startswith("flow.") and ".oci_digest." in entry.key
        )

    def _ends(self) -> dict[str, tuple[int, int]]:
        product = self.product
        return ends_of(self._bootstrap, product.topic) | ends_of(self._bootstrap, product.offsets_topic)

    def _evidence(self, written: int, *, compacted: bool) -> Evidence:
        deadline = monotonic() + _QUIET_SECONDS
        ends = self._ends()
        while any(stable != high for stable, high in ends.values()) and monotonic() < deadline:
            sleep(0.2)
            ends = self._ends()
        records = read_all(self._bootstrap, self.product.topic)
        deadline = monotonic() + 5
        while len(self._watcher.entries) < len(records) and monotonic() < deadline:
            sleep(0.05)
        return Evidence(
            releases=tuple(self.releases),
            records=records,
            offsets=self._source_offsets(),
            watched=tuple(self._watcher.entries),
            reported=tuple((pull_id, digest) for digest, pull_id in _COMMITTED.findall(self.logs())),
            ends=ends,
            written_while_idle=written,
            compacted=compacted,
        )


@contextmanager
def open_scene(
    folder: Path,
    bootstrap: str,
    rng: random.Random,
    *,
    worker_bootstrap: str = "",
    registry_link: Callable[[int], str] | None = None,
    kafka: Mapping[str, Any] | None = None,
    worker: Mapping[str, Any] | None = None,
    task: Mapping[str, Any] | None = None,
    interval: str = "300ms",
) -> Iterator[Scene]:
    """A scene with names of its own.

    `bootstrap` is for readers, and for workers unless `worker_bootstrap` names another way. `registry_link` turns the
    registry's port into the address that workers are given.
    """
    name = f"c{uuid.uuid4().hex[:10]}"
    with FakeRegistry() as registry:
        port = int(registry.address.rpartition(":")[2])
        address = registry_link(port) if registry_link else registry.address
        properties = {"bootstrap.servers": worker_bootstrap or bootstrap, **(kafka or {})}
        if properties.get("group.protocol") != "consumer":  # there the session is the broker's
            properties = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000, **properties}
        product = Product(
            folder / name, bootstrap, f"{address}/{name}/flows:prod", name, interval=interval,
            task={"retry": {"max_attempts": 3, "initial_backoff": "50ms"}, **(task or {})},
            worker={"kafka": properties, **(worker or {})},
        )  # fmt: skip
        with Watcher(bootstrap, product.topic) as watcher:
            scene = Scene(product, bootstrap, registry, watcher, rng)
            try:
                yield scene
            finally:
                scene.end_workers()


def state_of(worker: Running) -> str:
    """The process's state as the kernel names it: T is stopped."""
    try:
        return Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _ends(worker: Running) -> bool:
    """Whether it ends in good order; otherwise it is made to write its threads' stacks into its log, and to end."""
    try:
        worker.process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        worker.process.send_signal(signal.SIGABRT)
        worker.process.wait(_END_SECONDS)
        return False
    return True
