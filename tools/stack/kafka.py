"""Apache Kafka as one or several KRaft nodes: their properties, how storage is formatted, how a node is launched.

What all brokers share stands in tools/kafka/broker.properties; here are only addresses, folders and the few settings
that differ when there are three.
"""

import base64
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.stack.pins import TOOLS
from tools.stack.probes import HOST, kafka_cluster
from tools.stack.server import Launch, Port
from tools.stack.steps import run

# Small and quick to start rather than fast at peak: C1 only and the serial collector take a second off the start.
_JVM = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_READ_LOG = "read the output above"

# Three nodes take internal topics of three replicas, and a write needs two of them.
_OF_THREE = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}


@dataclass(frozen=True, slots=True)
class KafkaFiles:
    """What starts a broker: the java command, the jars, and the class archive (None: start without, 1 s slower)."""

    java: Path
    jars: tuple[Path, ...]
    archive: Path | None


@dataclass(frozen=True, slots=True)
class Node:
    """One broker and controller: its id and its two ports."""

    id: int
    client: Port
    controller: Port


def shared_properties() -> dict[str, str]:
    """The settings every broker has, as tools/kafka/broker.properties gives them."""
    lines = (TOOLS / "kafka" / "broker.properties").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("=", 1) for line in lines if line.strip() and not line.startswith("#")]
    return {key.strip(): value.strip() for key, value in pairs}


def node_properties(node: Node, nodes: Sequence[Node], data: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The whole configuration of `node`, one of `nodes`; `extra` wins."""
    client = f"PLAINTEXT://{HOST}:{node.client.number}"
    own = {
        "node.id": str(node.id),
        "controller.quorum.voters": ",".join(f"{n.id}@{HOST}:{n.controller.number}" for n in nodes),
        "listeners": f"{client},CONTROLLER://{HOST}:{node.controller.number}",
        "advertised.listeners": client,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
    }
    return {**shared_properties(), **own, **(_OF_THREE if len(nodes) > 1 else {}), **extra}


def kafka(
    files: KafkaFiles,
    folder: Path,
    node: Node,
    nodes: Sequence[Node] = (),
    *,
    cluster_id: str = "",
    extra: Mapping[str, str] | None = None,
) -> Launch:
    """How to launch `node` with its data in `folder`; `nodes` are all of its cluster, itself included."""
    nodes = nodes or (node,)
    data, properties = folder / "data", folder / "server.properties"

    def prepare() -> None:
        settings = node_properties(node, nodes, data, extra or {})
        properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")
        if not (data / "meta.properties").exists():
            storage = ["kafka.tools.StorageTool", "format", "-t", cluster_id or new_cluster_id(), "-c", str(properties)]
            run("formatting Kafka's storage", [*_java(files), *storage], remedy=_READ_LOG, timeout_seconds=120)

    def is_ready() -> bool:
        cluster = kafka_cluster(node.client.number)
        return cluster is not None and node.id in cluster.nodes and cluster.cluster_id == _formatted_id(data)

    return Launch(
        name="kafka" if len(nodes) == 1 else f"kafka-{node.id}",
        folder=folder,
        command=[*_java(files), "kafka.Kafka", str(properties)],
        ports=(node.client, node.controller),
        is_ready=is_ready,
        prepare=prepare,
    )


def new_cluster_id() -> str:
    """A fresh cluster id as Kafka writes them: 16 random bytes, URL-safe base64, not like an option of a command."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def _java(files: KafkaFiles) -> list[str]:
    # -Xshare:auto: an archive that does not fit any more is passed over in silence.
    shared = [f"-XX:SharedArchiveFile={files.archive}", "-Xshare:auto"] if files.archive else []
    log = f"-Dlog4j2.configurationFile={TOOLS / 'kafka' / 'log4j2.properties'}"
    return [str(files.java), *_JVM, *shared, log, "-cp", ":".join(map(str, files.jars))]


def _formatted_id(data: Path) -> str:
    for line in (data / "meta.properties").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        if key == "cluster.id":
            return value.strip()
    return ""
