"""A link to a broker that can take all brokers out of the answers to metadata requests.

A broker that was frozen, or that lost its controller, answers for a moment with topics and no broker. librdkafka then
forgets every broker it knew and, with nobody left to ask, may never ask again (its #5301).
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from tools.stack.probes import HOST

_METADATA = 3
_FLEXIBLE_SINCE = 9  # from this version on lengths are unsigned varints and headers have tags


class BrokerlessLink:
    """Forwards a port to a broker's; while `brokers_hidden` is set, metadata answers name none. `with` ends it."""

    def __init__(self, front: int, behind: int) -> None:
        self.brokers_hidden = threading.Event()
        self.hidden_answers = 0
        self.address = f"{HOST}:{front}"
        self._behind = behind
        self._listener = socket.create_server((HOST, front))
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in list(self._sockets):
            _end(each)
        for thread in self._threads:
            thread.join(5)

    def cut(self) -> None:
        """End all connections; new ones are taken at once."""
        for each in self._sockets[1:]:
            _end(each)
        del self._sockets[1:]

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                broker = socket.create_connection((HOST, self._behind))
            except OSError:
                return
            self._sockets += [client, broker]
            asked: dict[int, int] = {}  # correlation id of a metadata request → its version
            self._spawn(self._requests, client, broker, asked)
            self._spawn(self._answers, broker, client, asked)

    def _requests(self, client: socket.socket, broker: socket.socket, asked: dict[int, int]) -> None:
        for frame in _frames(client, broker):
            key, version, correlation = struct.unpack_from(">hhi", frame)
            if key == _METADATA:
                asked[correlation] = version
            _send(broker, frame)

    def _answers(self, broker: socket.socket, client: socket.socket, asked: dict[int, int]) -> None:
        for frame in _frames(broker, client):
            version = asked.pop(struct.unpack_from(">i", frame)[0], None)
            if version is not None and self.brokers_hidden.is_set():
                self.hidden_answers += 1
                frame = without_brokers(frame, version)
            _send(client, frame)


def without_brokers(answer: bytes, version: int) -> bytes:
    """A MetadataResponse (correlation id first) of version 9 to 13 with an empty list of brokers."""
    assert version >= _FLEXIBLE_SINCE, f"MetadataResponse version {version} is not known here"
    at = _after_tags(answer, 4) + 4  # correlation id, header's tags, throttle time
    head = answer[:at]
    count, at = _varint(answer, at)
    for _ in range(count - 1):
        at += 4
        length, at = _varint(answer, at)
        at += length - 1 + 4  # host, port
        length, at = _varint(answer, at)
        at = _after_tags(answer, at + max(length - 1, 0))  # rack
    return head + b"\x01" + answer[at:]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _after_tags(data: bytes, at: int) -> int:
    count, at = _varint(data, at)
    for _ in range(count):
        _, at = _varint(data, at)
        length, at = _varint(data, at)
        at += length
    return at


def _frames(source: socket.socket, other: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(OSError, ValueError), source.makefile("rb") as stream:
        while len(head := stream.read(4)) == 4:
            (size,) = struct.unpack(">i", head)
            if len(frame := stream.read(size)) < size:
                break  # cut in the middle
            yield frame
    _end(source)
    _end(other)


def _send(target: socket.socket, frame: bytes) -> None:
    try:
        target.sendall(struct.pack(">i", len(frame)) + frame)
    except OSError:
        _end(target)


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
