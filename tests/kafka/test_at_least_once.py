"""Writes without transactions, by a producer in memory."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from connector.errors import OutputError
from connector.kafka.at_least_once import AcknowledgedWrites
from connector.kafka.attempt import hand_over
from connector.kafka.membership import Fence
from connector.kafka.record import Record

OFFSET = Record("offsets", 0, b"flow.f", b"1")


class Producer:
    """Keeps what it is given; full where `room` is used up, until a poll makes room again."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.sent: list[bytes] = []
        self.room = room
        self._left = room

    def produce(self, topic: str, *, key: bytes, **_: Any) -> None:
        if not self._left:
            raise BufferError
        self._left -= 1
        self.sent.append(key)

    def poll(self, seconds: float) -> None:
        self._left = self.room

    def flush(self, seconds: float) -> int:
        return 0

    def purge(self) -> None:
        pass

    def close(self) -> None:
        pass


class Clients:
    """What AcknowledgedWrites asks of `Clients`."""

    def __init__(self, producer: Producer) -> None:
        self.made = producer

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(function, *arguments)

    def plain_producer(self, message_max_bytes: int, batch_bytes: int) -> Producer:
        return self.made

    def error(self, doing: str, error: KafkaError) -> OutputError:
        return OutputError(reason="KafkaUnreachable", doing=doing, cause=error.str(), remedy="none")


class Prover:
    def fence(self, positions: dict[int, int]) -> Fence:
        return Fence((), b"")


def _writes(producer: Producer) -> AcknowledgedWrites:
    return AcknowledgedWrites(Clients(producer), Prover(), partition=0)  # type: ignore[arg-type]  # a fake


def _record(name: str) -> Record:
    return Record("layers", 0, name.encode(), b"x")


async def test_after_a_write_was_given_up_and_the_partition_restored_writing_goes_on() -> None:
    producer = Producer()
    writes = _writes(producer)
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    seen = 0

    class Slow:
        """The size check iterates first; the second pass waits in the middle."""

        def __iter__(self) -> Iterator[Record]:
            nonlocal seen
            seen += 1
            yield _record("a")
            if seen == 2:
                loop.call_soon_threadsafe(begun.set)
                while not stopped.is_set():
                    pass
            yield _record("b")

    stopped = asyncio.Event()
    first = asyncio.create_task(writes.commit(Slow(), OFFSET, 0, {}))
    await begun.wait()
    first.cancel()
    await asyncio.sleep(0)
    stopped.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert OFFSET.key not in producer.sent

    writes.restored()
    committed = await writes.commit([_record("c")], OFFSET, 0, {})

    assert committed.records == 2
    assert producer.sent[-2:] == [b"c", OFFSET.key]


def test_a_full_queue_is_waited_for_and_one_that_stays_full_is_an_error() -> None:
    producer = Producer(room=2)
    for name in "abcde":
        hand_over(producer, _record(name), lambda error, message: None, deadline=float("inf"))  # type: ignore[arg-type]
    assert producer.sent == [b"a", b"b", b"c", b"d", b"e"]

    producer = Producer(room=0)
    with pytest.raises(KafkaException) as caught:
        hand_over(producer, _record("f"), lambda error, message: None, deadline=0.0)  # type: ignore[arg-type]

    assert caught.value.args[0].code() == KafkaError._TIMED_OUT
