"""What the machine and its people do: a full disk, a clock that jumps, a compacted log, two groups on one flow."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.chaos.checker import Violation
from tests.chaos.clock import WallClock
from tests.chaos.report import Row
from tests.chaos.scene import Scene

_DAY_SECONDS = 86_400.0
# Back to the truth, a leap second's worth, an hour on and off, and to long before the first record was written.
CLOCK_SHIFTS = (0.0, 1.0, 0.0, 3600.0, -3600.0, 0.0, -3650 * _DAY_SECONDS, 0.0)
# Longer than a session, so that a client that waits for the wrong moment is thrown out of its group.
_SETTLE_SECONDS = 7.0


class CannotInject(Exception):
    """This machine does not let us; the reason is the message."""


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own of this size. Raises CannotInject without root."""
    if os.geteuid() != 0:
        raise CannotInject("a small file system needs root")
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        raise CannotInject(f"mount: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def disk_full(scene: Scene, folder: Path) -> Row:
    """No room for the spool: said clearly, nothing half is written, and it heals by itself when there is room."""
    with ExitStack() as ends:
        spool = ends.enter_context(small_disk(folder, "3m"))
        scene.push()
        worker = scene.start(env={"OCI_SYNC_SPOOL_DIRECTORY": str(spool)})
        scene.await_newest()
        ballast = spool / "ballast"
        ballast.write_bytes(b"x" * 2_800_000)
        scene.push(size=1_500_000)
        worker.wait_for("reason=SpoolFailed", seconds=30)
        ballast.unlink()
        return scene.judge("disk full in the spool", 1)


def clock_jumps(scene: Scene, folder: Path, shifts: Sequence[float] = CLOCK_SHIFTS) -> Row:
    """The worker's wall clock jumps, at rest and in a transaction, forward and back. Raises CannotInject without cc."""
    try:
        clock = WallClock(folder)
    except FileNotFoundError as error:
        raise CannotInject(str(error)) from error
    scene.push()
    worker = scene.start("stop:records_sent", clock.env)
    scene.await_frozen(worker)
    clock.set(_DAY_SECONDS)
    worker.process.send_signal(signal.SIGCONT)
    scene.await_newest()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    worker.wait_for(f"(?m)^{tomorrow:%Y-%m-%d}T")  # what it logs shows that its clock did jump
    for shift in shifts:
        clock.set(shift)
        scene.push()
        scene.await_newest()
        sleep(_SETTLE_SECONDS)
        scene.push()
        scene.await_newest()
    return scene.judge("the worker's clock jumps", 1 + len(shifts))


def offsets_compacted(scene: Scene, bootstrap: str, times: int) -> Row:
    """The offsets topic keeps nothing but the newest record of each key; a new owner finds its way."""
    scene.push()
    worker = scene.start()
    scene.await_newest()
    admin = AdminClient({"bootstrap.servers": bootstrap})
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in {
            "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": "100",
            "max.compaction.lag.ms": "200",
        }.items()
    ]  # fmt: skip
    resource = ConfigResource(ResourceType.TOPIC, scene.product.offsets_topic, incremental_configs=entries)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(20)
    for _ in range(times):
        scene.push()
        scene.await_newest()
        sleep(0.3)

    def is_compacted() -> bool:
        scene.push()  # a record rolls the segment
        scene.await_newest()
        sleep(1)
        return len(scene.product.read(scene.product.offsets_topic)) <= 3

    scene.await_that("the offsets topic is compacted", is_compacted, 60)
    worker.process.kill()
    scene.push()
    scene.start()
    return scene.judge("offsets topic compacted to the bone", 1, compacted=True)


def two_groups(scene: Scene) -> Row:
    """By mistake: a second group carries the same flow. Each writes every release; this row shows that it is seen."""
    scene.push()
    scene.start()
    scene.await_newest()
    scene.start(env={"OCI_SYNC_GROUP": "the-other-group"})
    sleep(4)
    for _ in range(3):
        scene.push()
        scene.await_newest()
        sleep(1.5)
    row = scene.judge("two groups on one flow, by mistake", 1)
    seen = sorted({violation.promise for violation in row.violations})
    if "I1" not in seen:
        return replace(row, violations=(Violation("I1", "two groups wrote, and nobody noticed"),))
    note = f"both write: {row.duplicates} releases came twice; the checker sees it ({', '.join(seen)})"
    return replace(row, duplicates=0, losses=0, violations=(), note=note)
