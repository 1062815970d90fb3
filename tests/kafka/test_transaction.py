import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from connector.errors import OutputError
from connector.kafka.clients import output_error
from connector.kafka.membership import Fence, not_owner
from connector.kafka.record import Record
from connector.kafka.transaction import Transactions, batch_limit, check_sizes


def test_sizes_are_counted_with_key_and_headers() -> None:
    records = [Record("t", 0, b"k", b"v" * 100, (("h", b"x"),)), Record("t", 0, b"k2", None)]

    count, size = check_sizes(records, {"t": 1_000})

    assert count == 2
    assert 100 < size < 1_000


def test_a_record_over_the_topics_limit_names_the_file_both_numbers_and_the_command() -> None:
    records = [Record("small", 0, b"reg/a:1#big.yaml", b"v" * 5_000)]

    with pytest.raises(OutputError) as caught:
        check_sizes(records, {"small": 4_000})

    text = str(caught.value)
    assert caught.value.reason == "RecordTooLarge"
    assert "big.yaml" in text
    assert "max.message.bytes=4000" in text
    assert "--add-config max.message.bytes=1048576" in text


def test_a_topic_whose_limit_is_hidden_is_left_to_the_broker() -> None:
    assert check_sizes([Record("t", 0, b"k", b"v" * 5_000)], {"t": None})[0] == 1


class Producer:
    """Begins, takes records, commits; `refusing` is the call that fails."""

    def __init__(self, refusing: str = "") -> None:
        self._refusing = refusing
        self.sending = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.closing = threading.Event()
        self.may_close = threading.Event()
        self.may_close.set()

    def _call(self, name: str) -> None:
        if name == self._refusing:
            raise KafkaException(KafkaError(KafkaError._FENCED if name == "commit" else KafkaError._STATE))

    def init_transactions(self, seconds: float) -> None:
        self._call("init")

    def begin_transaction(self) -> None:
        self._call("begin")

    def produce(self, topic: str, **_: Any) -> None:
        self._call("produce")
        self.sending.set()

    def poll(self, seconds: float) -> None:
        assert self.may_go_on.wait(5)

    def flush(self, seconds: float) -> int:
        return 0

    def send_offsets_to_transaction(self, *_: Any) -> None:
        pass

    def commit_transaction(self, seconds: float) -> None:
        self._call("commit")

    def abort_transaction(self, seconds: float) -> None:
        pass

    def purge(self) -> None:
        pass

    def close(self) -> None:
        self.closing.set()
        assert self.may_close.wait(5)


class Clients:
    """What Transactions asks of `Clients`."""

    def __init__(self, *producers: Producer) -> None:
        self._producers = list(producers)
        self.times_down = 0

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(function, *arguments)

    def producer(self, *_: Any) -> Producer:
        return self._producers.pop(0)

    def error(self, doing: str, error: KafkaError) -> OutputError:
        return output_error(doing, error)

    def heard_from_broker(self) -> None:
        pass


class Prover:
    def __init__(self, *, is_member: bool = True) -> None:
        self._is_member = is_member

    def fence(self, positions: dict[int, int]) -> Fence:
        if not self._is_member:
            raise not_owner("this worker is not in the group")
        return Fence((), b"")


OFFSET = Record("offsets", 0, b"flow.f", b"1")


def transactions(clients: Any, ended: list[str], *, is_member: bool = True) -> Transactions:
    changelog: Any = None
    return Transactions(
        clients, Prover(is_member=is_member), changelog, group="g", offsets_topic="offsets", partition=0,
        ended=lambda result, seconds: ended.append(result),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("refusing", "is_member", "result"),
    [
        ("", True, ["committed"]),
        ("init", True, []),
        ("begin", True, []),
        ("produce", True, ["aborted"]),
        ("", False, ["fenced"]),
    ],
)
async def test_a_transaction_is_counted_by_its_result_where_one_was_begun(
    refusing: str, is_member: bool, result: list[str]
) -> None:
    ended: list[str] = []

    with suppress(OutputError):
        await transactions(Clients(Producer(refusing)), ended, is_member=is_member).commit([], OFFSET, 0, {})

    assert ended == result


async def test_what_is_too_large_begins_no_transaction() -> None:
    ended: list[str] = []

    with pytest.raises(OutputError, match="takes max"):
        await transactions(Clients(Producer()), ended).commit([], OFFSET, 0, {"offsets": 1})

    assert ended == []


async def test_a_transaction_that_a_revocation_ends_was_aborted_not_fenced() -> None:
    producer, ended = Producer(), list[str]()
    producer.may_go_on.clear()

    committing = asyncio.create_task(transactions(Clients(producer), ended).commit([], OFFSET, 0, {}))
    await asyncio.to_thread(producer.sending.wait, 5)
    committing.cancel()
    await asyncio.sleep(0)
    producer.may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await committing

    assert ended == ["aborted"]


@pytest.mark.parametrize(("is_member", "told"), [(True, "committed"), (False, "not in the group")])
async def test_a_revocation_while_the_producer_closes_does_not_hide_how_the_transaction_ended(
    is_member: bool, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    producer = Producer()
    producer.may_close.clear()

    committing = asyncio.create_task(transactions(Clients(producer), [], is_member=is_member).commit([], OFFSET, 0, {}))
    await asyncio.to_thread(producer.closing.wait, 5)
    committing.cancel()
    await asyncio.sleep(0)
    producer.may_close.set()
    with pytest.raises(asyncio.CancelledError):
        await committing

    (line,) = [line for line in caplog.messages if "before the partition was given up" in line]
    assert told in line


async def test_a_revocation_in_the_middle_and_another_at_the_end_are_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    producer = Producer()
    producer.may_go_on.clear()
    producer.may_close.clear()

    committing = asyncio.create_task(transactions(Clients(producer), []).commit([], OFFSET, 0, {}))
    await asyncio.to_thread(producer.sending.wait, 5)
    committing.cancel()
    await asyncio.sleep(0)
    producer.may_go_on.set()
    await asyncio.to_thread(producer.closing.wait, 5)
    committing.cancel()
    await asyncio.sleep(0)
    producer.may_close.set()
    with pytest.raises(asyncio.CancelledError):
        await committing

    assert sum("before the partition was given up" in line for line in caplog.messages) == 1


async def test_a_producer_that_was_ready_before_brokers_were_lost_is_not_used() -> None:
    ended: list[str] = []
    clients: Any = Clients(Producer("begin"), Producer())
    ours = transactions(clients, ended)
    await ours.initialise({})
    clients.times_down += 1

    await ours.commit([], OFFSET, 0, {})

    assert ended == ["committed"]


def test_no_batch_is_larger_than_the_smallest_topic_takes() -> None:
    assert batch_limit({"offsets": 8 << 20, "oci.f": 100_000}) == 100_000
    assert batch_limit({"offsets": 8 << 20, "oci.f": None}) == 1_048_588
    assert batch_limit({}) == 1_000_000
