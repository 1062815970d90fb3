"""What happens to the topic that the readers read: releases, a pull that dies, compaction until nothing old is left.

    early   release 1; a pull killed with its records in the log; release 2
    late    the same; then compaction to the bone, tombstones gone; then release 3

Nobody is too late for `early`, since its topic keeps every pull whole for a day. So each reader may come when it likes.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from tests.system.product import Product, Seen
from tests.system.servers import Broker, Oras, Registry

Files = Mapping[str, str | bytes]

FIRST: Files = {"a.yaml": "a: 1\n", "b/ü.txt": "grüße\n", "empty.txt": "", "goes.yaml": "once\n"}
# It died on its way: nobody may ever see this file.
ABORTED: Files = {"a.yaml": "a: aborted\n", "aborted.yaml": "never released\n"}
SECOND: Files = {"a.yaml": "a: 2\n", "b/ü.txt": "grüße\n", "empty.txt": "", "new.yaml": '"quoted"\ttab\n'}
THIRD: Files = {"a.yaml": "a: 3\n", "b/ü.txt": "grüße\n", "empty.txt": "", "z.yaml": "z\n"}
# Only format raw carries any bytes as they are; the text formats would need base64 and a look at a header.
BINARY: Files = {"logo.bin": b"\x00\xff\xfe\r\n\t binary"}

# The smallest that makes the cleaner take every segment but the last, within seconds.
TO_THE_BONE = {
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0.001",
    "delete.retention.ms": "100",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "200",
}


@dataclass(frozen=True, slots=True)
class Told:
    """A topic as it stands at the end of a story. `digest` is the newest release, `last` the last record's offset.

    `keys` are those of its committed records, in their order.
    """

    topic: str
    reference: str
    digest: str
    last: int
    keys: tuple[str, ...]


@dataclass
class Story:
    """Tells it for one format, on servers that are there."""

    kafka: Broker
    registry: Registry
    oras: Oras
    schema_registry: str
    folder: Path
    name: str
    format: str

    def early(self) -> Told:
        """Until release 2."""
        self._release(FIRST)
        self._die_on_the_way()
        digest = self._release(SECOND)
        assert any(record.path == "aborted.yaml" for record in self._product().read(committed=False)), (
            "the killed pull left nothing in the log: forgetting isolation.level would prove nothing"
        )
        return self._told(digest)

    def late(self) -> Told:
        """To the end."""
        self.early()
        self._compact()
        return self._told(self._release(THIRD))

    @property
    def topic(self) -> str:
        return self._product().topic

    @property
    def reference(self) -> str:
        return f"{self.registry.host}/{self.name}:prod"

    def _product(self, **task: object) -> Product:
        worker = {
            # A killed worker holds its partitions for a session; our broker allows a short one.
            "kafka": {
                "bootstrap.servers": self.kafka.bootstrap, "session.timeout.ms": 1500, "heartbeat.interval.ms": 200,
            },
            **({"schema_registry": {"url": self.schema_registry}} if self.schema_registry else {}),
        }  # fmt: skip
        asked = {"format": self.format, **task}
        folder = self.folder / ("-".join(task) or "product")
        return Product(folder, self.kafka.bootstrap, self.reference, self.name, "300ms", asked, worker)

    def _publish(self, files: Files) -> str:
        binary = BINARY if self.format == "raw" else {}
        return self.oras.push(self.reference, {**files, **binary})

    def _release(self, files: Files) -> str:
        digest = self._publish(files)
        ended = self._product().run_once("--join")  # a killed worker counts as one until its session times out
        assert ended.returncode == 0, ended.stderr
        return digest

    def _die_on_the_way(self) -> None:
        self._publish(ABORTED)
        ended = self._product().run_once(env={"OCI_SYNC_FAULT": "kill:records_sent"})
        assert ended.returncode == -9, ended.stderr

    def _compact(self) -> None:
        product = self._product(force_pull=True)
        before = max(record.offset for record in product.read())
        admin = KafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)
        try:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, product.topic, configs=TO_THE_BONE)])
        finally:
            admin.close()
        # The cleaner never takes the segment that is written to. So release 2 is written again and again, each time
        # into a new segment, until all that was before is gone: superseded files, the aborted pull, tombstones.
        with product.running() as running:
            deadline = time.monotonic() + 60
            while not _is_bare(product.read(committed=False), before):
                assert time.monotonic() < deadline, f"not compacted within 60 s:\n{running.text()}"
                time.sleep(0.2)
            assert running.end() == 0

    def _told(self, digest: str) -> Told:
        records = self._product().read()
        reference = f"{self.registry.host}/{self.name}@{digest}"
        return Told(self.topic, reference, digest, records[-1].offset, tuple(record.key for record in records))


def _is_bare(records: list[Seen], before: int) -> bool:
    return all(record.offset > before and record.value is not None for record in records)


def pulled(oras: Oras, told: Told, folder: Path) -> dict[str, bytes]:
    """What `oras pull` of the digest gives: path → bytes."""
    folder.mkdir(parents=True)
    oras("pull", "--plain-http", told.reference, cwd=folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
