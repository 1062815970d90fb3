"""What a sink writes to, the writes that a snapshot asks for, and making them. Chooses nothing about keys or values.

A store is one module in `tasks/` with `Fields` (a `StoreFields`), `build(fields, parts) -> Store`, and it passes
`tests/suites/store.py`. Rules for a store: (1) it connects at the first call and again after a failure; making one
touches no network. (2) A key or value that it cannot hold is refused by `check`, before anything is written.
(3) A write names the entry that it replaces; where the store can, it refuses when another writer was faster
(StoreConflict, transient). (4) Each call ends by a deadline: StoreUnreachable, transient.
"""

import os
from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from msgspec import Struct, field

from connector import faults

_NO_VALUES: Mapping[str, "Entry"] = MappingProxyType({})


class Entry(Struct, frozen=True):
    """What a store holds under a key. `revision` is the store's own mark of this value, None where it has none."""

    value: bytes
    revision: int | None = None


class Diff(Struct, frozen=True):
    """The writes that make the store what it should be.

    `replaced` holds the entries as they were listed, for the keys that are put over or deleted; a key of `puts` that
    is not in it was absent. `unchanged` counts keys that are right already, `unmatched` the files that no route takes.
    """

    puts: Mapping[str, bytes]
    deletes: tuple[str, ...]
    replaced: Mapping[str, Entry] = field(default_factory=lambda: _NO_VALUES)
    unchanged: int = 0
    unmatched: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether the store is as it should be."""
        return not self.puts and not self.deletes


class Applied(Struct, frozen=True):
    """What was done to a store. `skips` counts keys that held the right value already."""

    puts: int = 0
    deletes: int = 0
    skips: int = 0
    unmatched: int = 0

    def __add__(self, other: "Applied") -> "Applied":
        return Applied(
            self.puts + other.puts,
            self.deletes + other.deletes,
            self.skips + other.skips,
            self.unmatched + other.unmatched,
        )


class Store(Protocol):
    """Keys and values somewhere else. Raises SinkError; every key is text, every value bytes."""

    def check(self, key: str, value: bytes) -> None:
        """Raise SinkError KeyInvalid or ValueTooLarge for what the store would refuse. No network."""
        ...

    async def list(self, prefix: str) -> Mapping[str, Entry]:
        """Every key that begins with the prefix ('' for all), with its value."""
        ...

    async def keys(self, prefix: str) -> frozenset[str]:
        """The keys of `list`, without the values where the store can."""
        ...

    async def get(self, key: str) -> Entry | None:
        """What stands under one key."""
        ...

    async def put(self, key: str, value: bytes, replaced: Entry | None) -> None:
        """Write one value over `replaced`; None: where nothing stood."""
        ...

    async def delete(self, key: str, replaced: Entry) -> None:
        """Remove one key that holds `replaced`; a key that is gone already is fine."""
        ...

    async def probe(self) -> str:
        """What `validate` says of the store when it answers; creates and writes nothing."""
        ...

    async def close(self) -> None:
        """End connections; never raises."""
        ...


@runtime_checkable
class WritesWhole(Protocol):
    """A store whose readers never see half of a diff."""

    async def write(self, diff: Diff) -> None:
        """Make all the writes, or none of them."""
        ...


async def apply(diff: Diff, store: Store) -> Applied:
    """Make the writes: puts before deletes, so a reader may find too much but not too little; by order of the keys.

    Checks every key and value before the first write. Raises SinkError; what was written until then stays, and the
    next diff leaves it out.
    """
    for key, value in diff.puts.items():
        store.check(key, value)
    if isinstance(store, WritesWhole):
        if not diff.is_empty:
            await store.write(diff)
    else:
        for key in sorted(diff.puts):
            await store.put(key, diff.puts[key], diff.replaced.get(key))
            faults.passing("write_applied")
        for key in sorted(diff.deletes):
            await store.delete(key, diff.replaced[key])
            faults.passing("write_applied")
    return Applied(len(diff.puts), len(diff.deletes), diff.unchanged, diff.unmatched)


async def diff_of(puts: Mapping[str, bytes], deletes: frozenset[str], store: Store) -> Diff:
    """The diff for keys that are named one by one, out of what the store holds under each. Raises SinkError."""
    for key, value in puts.items():
        store.check(key, value)
    held = await _held({*puts, *deletes}, store)
    needed = {key: value for key, value in puts.items() if key not in held or held[key].value != value}
    gone = tuple(sorted(key for key in deletes if key in held))
    replaced = {key: held[key] for key in (*needed, *gone) if key in held}
    return Diff(needed, gone, replaced, unchanged=len(puts) - len(needed))


async def _held(keys: Set[str], store: Store) -> Mapping[str, Entry]:
    """What stands under these keys. A store that is written as a whole is read as a whole: one key costs it as much."""
    if keys and isinstance(store, WritesWhole):
        # The prefix is one of characters, as `list` takes it.
        listed = await store.list(os.path.commonprefix(sorted(keys)))  # noqa: RUF071
        return {key: listed[key] for key in keys & listed.keys()}
    return {key: entry for key in sorted(keys) if (entry := await store.get(key)) is not None}
