"""What a store task does with events."""

from collections.abc import Sequence
from typing import Any

import pytest

from connector.errors import SinkError
from connector.records.file_record import Snapshot
from connector.sink.chain import EventChain
from connector.sink.event import Event
from connector.sink.operation import Operation, StoreFields, check_store
from connector.sink.store import Applied, Diff, Entry
from tests.sink.memory_store import MemoryStore, pull


def _operation(store: MemoryStore, **fields: object) -> Operation:
    return Operation(StoreFields.model_validate({"name": "kv", **fields}), store)


def _events(*data: dict[str, Any]) -> list[Event]:
    return [Event(one, {"flow": "f"}) for one in data]


async def test_put_writes_the_content_under_the_rendered_key() -> None:
    store = MemoryStore()

    await _operation(store, operation="put", key="{{event.data.key}}.{{ event.meta.flow }}").handle(
        _events({"action": "put", "key": "a", "content": "1"})
    )

    assert store.plain() == {"a.f": b"1"}


async def test_put_and_delete_take_the_events_that_are_meant_for_them() -> None:
    store = MemoryStore()
    store.set("b", b"1")
    events = _events({"action": "put", "key": "a", "content": "1"}, {"action": "delete", "key": "b"})

    assert await _operation(store, operation="put").handle(events) == Applied(puts=1)
    assert set(store.plain()) == {"a", "b"}
    assert await _operation(store, operation="delete").handle(events) == Applied(deletes=1)
    assert set(store.plain()) == {"a"}


async def test_apply_takes_both() -> None:
    store = MemoryStore()
    store.set("b", b"1")

    await _operation(store).handle(_events({"key": "a", "content": "1"}, {"action": "delete", "key": "b"}))

    assert store.plain() == {"a": b"1"}


async def test_the_same_events_again_write_nothing() -> None:
    store = MemoryStore()
    events = _events({"key": "a", "content": "1"}, {"action": "delete", "key": "gone"})
    await _operation(store).handle(events)
    writes = list(store.writes)

    assert await _operation(store).handle(events) == Applied(skips=1)
    assert store.writes == writes


async def test_data_without_content_is_written_as_json_and_base64_as_its_bytes() -> None:
    store = MemoryStore()

    await _operation(store, operation="put").handle(
        _events({"key": "a", "n": 1}, {"key": "b", "content": "/wA=", "content_encoding": "base64"})
    )

    assert store.plain() == {"a": b'{"key":"a","n":1}', "b": b"\xff\x00"}


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (_events({"content": "1"}), "KeyInvalid"),
        (_events({"key": 5}), "KeyInvalid"),
        (_events({"key": "outside", "content": "1"}), "KeyInvalid"),
        (_events({"key": "p.a", "content": "1"}, {"key": "p.a", "content": "2"}), "DuplicateKey"),
        (_events({"key": "p.a", "action": "drop"}), "ScriptFailed"),
        (_events({"key": "p.a", "content": "?", "content_encoding": "base64"}), "ScriptFailed"),
    ],
)
async def test_events_that_cannot_be_meant_are_refused_before_any_write(events: Sequence[Event], reason: str) -> None:
    store = MemoryStore()

    with pytest.raises(SinkError) as caught:
        await _operation(store, key_prefix="p.").handle([*_events({"key": "p.first", "content": "1"}), *events])

    assert (caught.value.reason, store.writes) == (reason, [])


async def test_list_adds_the_keys_for_the_script_that_follows() -> None:
    store = MemoryStore()
    for key in ("p.b", "p.a", "q"):
        store.set(key, key.encode())

    (keys,) = await _operation(store, operation="list", key_prefix="p.").extend(_events({"batch": []}))
    (both,) = await _operation(store, operation="list", key_prefix="p.", include_values=True).extend(_events({}))

    assert keys.data == {"batch": [], "keys": ["p.a", "p.b"]}
    assert both.data["values"] == {"p.a": "p.a", "p.b": "p.b"}


async def test_a_chain_without_a_script_hands_the_batch_to_the_store() -> None:
    store = MemoryStore()
    records = pull("1", {"a": "text"})
    chain = EventChain("kv", "f", [], _operation(store, operation="put", key="{{ event.meta.artifact_digest }}"))

    await chain.apply([Snapshot(records[0].pull, tuple(records))], all_known=True)

    assert list(store.plain()) == ["sha256:1"]


def test_check_names_what_is_wrong_with_the_key() -> None:
    assert check_store(StoreFields(name="s", key="{{ evnt.data }}")) == ["key: unknown evnt; there is event"]
    assert check_store(StoreFields(name="s", key="{{ event.data.key }}")) == []


class WholeStore(MemoryStore):
    """A store that writes all or nothing, as a directory or a topic does; one key costs it a look at everything."""

    gets = 0

    async def get(self, key: str) -> Entry | None:
        self.gets += 1
        return await super().get(key)

    async def write(self, diff: Diff) -> None:
        for key, value in diff.puts.items():
            self.set(key, value)
        for key in diff.deletes:
            del self.values[key]


async def test_a_store_that_is_read_whole_is_read_once_for_all_keys() -> None:
    store = WholeStore()
    store.set("k.a", b"1")
    store.set("k.gone", b"1")
    store.set("others", b"1")
    events = _events(
        {"action": "put", "key": "k.a", "content": "1"},
        {"action": "put", "key": "k.b", "content": "2"},
        {"action": "delete", "key": "k.gone"},
        {"action": "delete", "key": "k.never"},
    )

    applied = await _operation(store).handle(events)

    assert applied == Applied(puts=1, deletes=1, skips=1)
    assert store.plain() == {"k.a": b"1", "k.b": b"2", "others": b"1"}
    assert (store.lists, store.gets) == (["k."], 0)
