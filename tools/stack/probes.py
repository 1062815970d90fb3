"""Is it ready? Each server is asked in its own protocol, because an open port does not say that anybody serves it."""

import http.client
import socket
import struct
from dataclasses import dataclass

HOST = "127.0.0.1"
_PATIENCE_SECONDS = 1.0  # for one question; a server that is busy starting is asked again
_METADATA, _METADATA_VERSION = 3, 4
_NO_CORRELATION = 1


@dataclass(frozen=True, slots=True)
class KafkaCluster:
    """What a broker says of its cluster: the id it was formatted with and the nodes that are in service."""

    cluster_id: str
    nodes: tuple[int, ...]


def http_answers(port: int, path: str) -> bool:
    """Whether a GET of `path` gets 200, or 401 from a registry that wants credentials first."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_PATIENCE_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status in (200, 401)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def kafka_cluster(port: int) -> KafkaCluster | None:
    """The cluster as the broker on `port` describes it, None while it does not answer.

    Sends Metadata version 4 for no topic (Kafka protocol guide, "Metadata API"). A KRaft broker that opened its port
    but is still fenced answers with an empty list of nodes.
    """
    try:
        with socket.create_connection((HOST, port), timeout=_PATIENCE_SECONDS) as connection:
            client = b"stack"
            header = struct.pack(">hhih", _METADATA, _METADATA_VERSION, _NO_CORRELATION, len(client)) + client
            no_topic_no_creation = struct.pack(">i?", 0, False)
            request = header + no_topic_no_creation
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _read(connection, 4))
            return _parse_metadata(_read(connection, size))
    except (OSError, struct.error, ValueError):
        return None


def port_is_taken(port: int) -> bool:
    """Whether somebody listens on `port` of this machine already."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection's leftovers do not count
        try:
            trial.bind((HOST, port))
        except OSError:
            return True
        return False


def _read(connection: socket.socket, size: int) -> bytes:
    if not 0 <= size <= 1 << 20:
        raise ValueError(f"a frame of {size} bytes is not Kafka's answer")
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise ValueError("the connection ended within an answer")
        parts += part
    return bytes(parts)


def _parse_metadata(answer: bytes) -> KafkaCluster:
    at = 8  # correlation id, throttle time
    (count,) = struct.unpack_from(">i", answer, at)
    at += 4
    nodes = []
    for _ in range(count):
        (node,) = struct.unpack_from(">i", answer, at)
        nodes.append(node)
        _host, at = _parse_text(answer, at + 4)
        _rack, at = _parse_text(answer, at + 4)  # after the port
    cluster_id, _at = _parse_text(answer, at)
    return KafkaCluster(cluster_id, tuple(sorted(nodes)))


def _parse_text(answer: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">h", answer, at)
    end = at + 2 + max(size, 0)
    return answer[at + 2 : end].decode(), end
