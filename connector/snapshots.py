"""Complete snapshots of a topic, for Python programs of your own: the assembler that the sink half uses.

    from connector.snapshots import Snapshots

    for snapshot in Snapshots({"bootstrap.servers": "localhost:9092"}, "oci.rules"):
        for file in snapshot.files:
            print(file.path, len(file.content), snapshot.pull.artifact_digest)

A snapshot comes when it is whole and never before; a pull that is superseded while it is collected is skipped. Records
are read from the beginning, committed ones only, without a group: nothing is stored about the reader. With `follow` the
iteration goes on for ever; without, it ends at what was in the topic when it began.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from typing import TypeAlias

from connector.kafka.clients import Clients, Property
from connector.kafka.reader import TopicReader
from connector.kafka.topics import Topics
from connector.records.file_record import Snapshot
from connector.records.reading import read_file
from connector.sink.tasks.buffer import Snapshots as Assembler

__all__ = ["Snapshot", "Snapshots"]

_AHEAD = 1  # snapshots that the reading thread may be ahead of a synchronous reader
_LOOK_SECONDS = 0.2

_Ready: TypeAlias = "queue.Queue[Snapshot | BaseException | None]"


class Snapshots:
    """An iterable, synchronous (`for`) and asynchronous (`async for`), over the snapshots of one topic.

    `properties` are librdkafka's. Raises OutputError TopicMissing, KafkaUnreachable, NotAuthorized; RecordInvalid for a
    record of somebody else, SinkError SnapshotTooLarge beyond `max_files` or `max_total_size` bytes.
    """

    def __init__(
        self,
        properties: Mapping[str, Property],
        topic: str,
        *,
        follow: bool = False,
        max_files: int = 10_000,
        max_total_size: int = 100_000_000,
    ) -> None:
        self._properties = dict(properties)
        self._topic = topic
        self._follow = follow
        self._limits = (max_files, max_total_size)

    def __repr__(self) -> str:
        return f"<Snapshots of {self._topic}>"

    async def __aiter__(self) -> AsyncIterator[Snapshot]:
        assembler = Assembler(*self._limits)
        async with Clients(self._properties, "oci-sync-reader") as clients:
            topics = Topics(clients)
            async with TopicReader(clients, topics, self._topic) as reader:
                async for batch in reader.batches(follow=self._follow):
                    for record in batch:
                        found = assembler.feed(read_file(record), record.topic, record.partition, record.offset)
                        if found is not None:
                            yield found

    def __iter__(self) -> Iterator[Snapshot]:
        ready: _Ready = queue.Queue(_AHEAD)
        stop = threading.Event()
        thread = threading.Thread(target=self._fill, args=(ready, stop), name=f"snapshots-{self._topic}", daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            with suppress(queue.Empty):
                while True:
                    ready.get_nowait()
            thread.join()

    def _fill(self, ready: _Ready, stop: threading.Event) -> None:
        try:
            asyncio.run(self._read_into(ready, stop))
        except BaseException as error:  # noqa: BLE001  it belongs to the thread that iterates, with its traceback
            _put(ready, error, stop)
        else:
            _put(ready, None, stop)

    async def _read_into(self, ready: _Ready, stop: threading.Event) -> None:
        async def read() -> None:
            async for snapshot in self:
                # The queue is what bounds the memory; waiting for it may hold up this loop, which has nothing else.
                if not _put(ready, snapshot, stop):
                    return

        task = asyncio.create_task(read())
        while not task.done():
            await asyncio.wait([task], timeout=_LOOK_SECONDS)
            if stop.is_set():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                return
        await task


def _put(ready: _Ready, item: Snapshot | BaseException | None, stop: threading.Event) -> bool:
    """Whether the item was taken before the reader went away."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=_LOOK_SECONDS)
        except queue.Full:
            continue
        return True
    return False
