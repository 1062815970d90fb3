"""What every store must do. A test class inherits `StoreSuite` and gives `store`, a fresh and empty one.

    class TestNatsKvStore(StoreSuite):
        @pytest.fixture
        async def store(self, ...): yield ...

Keys look like `base.a.one`; a store that cannot hold such keys overrides `key`.
"""

import pytest

from connector.errors import SinkError
from connector.sink.store import Applied, Diff, Entry, Store, apply, diff_of


class StoreSuite:
    """Inherited by one class a store."""

    def key(self, name: str) -> str:
        return f"base.{name}"

    async def test_a_value_that_was_put_is_found_by_get_and_by_list(self, store: Store) -> None:
        await _put(store, self.key("a.one"), b"1")

        assert (await _get(store, self.key("a.one"))) == b"1"
        assert {key: entry.value for key, entry in (await store.list(self.key(""))).items()} == {
            self.key("a.one"): b"1"
        }

    async def test_a_key_nobody_wrote_is_none(self, store: Store) -> None:
        assert await store.get(self.key("missing")) is None

    async def test_a_list_holds_what_begins_with_the_prefix_and_nothing_else(self, store: Store) -> None:
        for name in ("a.one", "ab.two", "b.three"):
            await _put(store, self.key(name), name.encode())

        assert set(await store.list(self.key("a."))) == {self.key("a.one")}
        assert set(await store.list(self.key("a"))) == {self.key("a.one"), self.key("ab.two")}
        assert len(await store.list("")) == 3
        assert await store.keys(self.key("a")) == {self.key("a.one"), self.key("ab.two")}

    async def test_an_empty_store_lists_nothing(self, store: Store) -> None:
        assert dict(await store.list("")) == {}
        assert await store.keys(self.key("")) == frozenset()

    async def test_a_deleted_key_is_gone_and_can_come_back(self, store: Store) -> None:
        key = self.key("a")
        await _put(store, key, b"1")
        await _delete(store, key)

        assert await store.get(key) is None
        assert await store.keys("") == frozenset()

        await _put(store, key, b"2")
        assert await _get(store, key) == b"2"

    async def test_values_are_bytes_of_any_kind(self, store: Store) -> None:
        values = {self.key("empty"): b"", self.key("binary"): bytes(range(256)), self.key("text"): "ü\n".encode()}

        await apply(await diff_of(values, frozenset(), store), store)

        assert {key: entry.value for key, entry in (await store.list("")).items()} == values

    async def test_an_equal_value_is_not_written_again(self, store: Store) -> None:
        await _put(store, self.key("a"), b"1")
        before = await store.get(self.key("a"))

        applied = await apply(await diff_of({self.key("a"): b"1"}, frozenset(), store), store)

        assert applied == Applied(skips=1)
        assert await store.get(self.key("a")) == before

    async def test_a_key_that_cannot_be_held_keeps_the_whole_diff_out(self, store: Store) -> None:
        diff = Diff({self.key("good"): b"1", "": b"2"}, ())

        with pytest.raises(SinkError) as caught:
            await apply(diff, store)

        assert caught.value.reason == "KeyInvalid"
        assert await store.get(self.key("good")) is None

    async def test_a_diff_puts_and_deletes(self, store: Store) -> None:
        old = {self.key("gone"): b"1", self.key("changed"): b"2", self.key("same"): b"3"}
        await apply(await diff_of(old, frozenset(), store), store)

        new = {self.key("changed"): b"4", self.key("same"): b"3", self.key("new"): b"5"}
        applied = await apply(await diff_of(new, frozenset({self.key("gone")}), store), store)

        assert applied == Applied(puts=2, deletes=1, skips=1)
        assert {key: entry.value for key, entry in (await store.list("")).items()} == new

    async def test_a_probe_says_something_and_writes_nothing(self, store: Store) -> None:
        assert await store.probe()
        assert dict(await store.list("")) == {}

    async def test_a_closed_store_connects_again(self, store: Store) -> None:
        await _put(store, self.key("a"), b"1")
        await store.close()

        assert await _get(store, self.key("a")) == b"1"


class ConditionalStoreSuite(StoreSuite):
    """For stores that refuse a write over a value that another writer changed."""

    async def test_a_put_over_a_value_that_changed_meanwhile_is_a_conflict(self, store: Store) -> None:
        key = self.key("a")
        await _put(store, key, b"1")
        stale = await store.get(key)
        await _put(store, key, b"by another writer")

        with pytest.raises(SinkError) as caught:
            await store.put(key, b"2", stale)

        assert (caught.value.reason, caught.value.transient) == ("StoreConflict", True)
        assert await _get(store, key) == b"by another writer"

    async def test_a_key_that_another_writer_made_meanwhile_is_a_conflict(self, store: Store) -> None:
        await _put(store, self.key("a"), b"by another writer")

        with pytest.raises(SinkError, match="another writer") as caught:
            await store.put(self.key("a"), b"2", None)

        assert caught.value.reason == "StoreConflict"

    async def test_a_delete_of_a_value_that_changed_meanwhile_is_a_conflict(self, store: Store) -> None:
        key = self.key("a")
        await _put(store, key, b"1")
        stale = await store.get(key)
        assert stale is not None
        await _put(store, key, b"by another writer")

        with pytest.raises(SinkError) as caught:
            await store.delete(key, stale)

        assert caught.value.reason == "StoreConflict"
        assert await _get(store, key) == b"by another writer"


async def _put(store: Store, key: str, value: bytes) -> None:
    await apply(Diff({key: value}, (), _held(key, await store.get(key))), store)


async def _delete(store: Store, key: str) -> None:
    await apply(Diff({}, (key,), _held(key, await store.get(key))), store)


async def _get(store: Store, key: str) -> bytes | None:
    entry = await store.get(key)
    return entry.value if entry is not None else None


def _held(key: str, entry: Entry | None) -> dict[str, Entry]:
    return {key: entry} if entry is not None else {}
