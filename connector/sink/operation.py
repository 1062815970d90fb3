"""`operation` of a store task: what it does with the events, or the diff, that reach it.

Rules. (1) `apply` after a `diff` makes its writes. (2) After a `script`, `put` and `delete` take every event without an
`action`, and those whose `action` is their own word; `apply` takes both, by `action` (without one: put). (3) The key is
the template `key`, else `data.key`; with `key_prefix` set, a key outside it is an error. (4) `list` adds the store's
keys to the event and hands it on: `data.keys`, and with `include_values` `data.values`.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace
from pydantic import Field

from connector.config.task import TaskFields
from connector.config.template import Template, compile_template
from connector.errors import SinkError
from connector.sink.event import Event, content_of
from connector.sink.store import Applied, Store, apply, diff_of
from connector.sink.store_parts import template_problems

OperationName: TypeAlias = Literal["apply", "put", "delete", "list"]
_ACTIONS = ("put", "delete")


class StoreFields(TaskFields):
    """The fields that every store has."""

    operation: OperationName = Field(
        "apply",
        description="`apply`: the writes of the `diff` above, or events with an `action`; `put`, `delete`: one key an "
        "event; `list`: the keys, for the script that follows.",
    )
    key: str | None = Field(
        None,
        description="Template of the key over `event`, such as `{{event.data.key}}`; default: the event's own key.",
    )
    key_prefix: str = Field("", description="`list`: the keys to list. `put`, `delete`: no key may be outside of it.")
    include_values: bool = Field(False, description="`list`: the values too, where they are text.")


def check_store(fields: StoreFields) -> list[str]:
    """What is wrong with the template of the key."""
    return [] if fields.key is None else template_problems("key", fields.key, {"event"})


class _Write(Struct, frozen=True):
    """One event's wish: a value under a key, or None for its removal."""

    key: str
    value: bytes | None


class Operation:
    """One store task: the store, and what its fields ask of it."""

    def __init__(self, fields: StoreFields, store: Store) -> None:
        self.name = fields.name
        self.kind = fields.operation
        self.store = store
        self._prefix = fields.key_prefix
        self._include_values = fields.include_values
        self._key: Template | None = compile_template(fields.key) if fields.key is not None else None

    async def handle(self, events: Sequence[Event]) -> Applied:
        """Make the writes that the events ask for, values compared first. Raises SinkError."""
        puts: dict[str, bytes] = {}
        deletes: set[str] = set()
        for event in events:
            write = self._write(event)
            if write is None:
                continue
            if write.key in puts or write.key in deletes:
                raise self._refused("DuplicateKey", f"two events have the key {write.key[:200]!r}")
            if write.value is None:
                deletes.add(write.key)
            else:
                puts[write.key] = write.value
        return await apply(await diff_of(puts, frozenset(deletes), self.store), self.store)

    async def extend(self, events: Sequence[Event]) -> list[Event]:
        """The events with the store's keys added to each: `operation: list`."""
        if not self._include_values:
            added: dict[str, Any] = {"keys": sorted(await self.store.keys(self._prefix))}
        else:
            entries = await self.store.list(self._prefix)
            added = {
                "keys": sorted(entries),
                "values": {key: entry.value.decode("utf-8", "replace") for key, entry in sorted(entries.items())},
            }
        return [replace(event, data={**event.data, **added}) for event in events]

    def _write(self, event: Event) -> _Write | None:
        action = event.data.get("action", self.kind if self.kind in _ACTIONS else "put")
        if action not in _ACTIONS:
            raise self._refused(
                "ScriptFailed", f"an event has the action {str(action)[:80]!r}; there are put and delete"
            )
        if self.kind != "apply" and action != self.kind:
            return None
        key = self._key_of(event)
        value = content_of(event, f"{self.name}: writing {key[:200]!r}") if action == "put" else None
        return _Write(key, value)

    def _key_of(self, event: Event) -> str:
        if self._key is not None:
            view = {"data": event.data, "meta": event.meta}
            key: Any = self._key.render(f"{self.name}: making a key", event=view)
        else:
            key = event.data.get("key")
        if not isinstance(key, str) or not key:
            raise self._refused("KeyInvalid", "an event has no key")
        if not key.startswith(self._prefix):
            raise self._refused("KeyInvalid", f"the key {key[:200]!r} is outside of key_prefix {self._prefix!r}")
        return key

    def _refused(self, reason: str, cause: str) -> SinkError:
        return SinkError(
            reason=reason,
            doing=f"{self.name}: {self.kind}",
            cause=cause,
            remedy="mend the script above, or the fields of the store (operator)",
        )
