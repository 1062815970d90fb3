"""Authorization headers that are still good, for all sources of a process. In memory only.

A key is registry, scope and the fingerprints of the credentials that may be used: a token got with one file is never
used for a source with another.
"""

import asyncio
from collections import OrderedDict

from msgspec import Struct

from connector.oci.auth import Grant
from connector.oci.clock import Clock

TokenKey = tuple[str, str, tuple[str, ...]]

_MOST = 1000  # sources times registries of a large worker; the least recently used makes room


class _Slot(Struct):
    lock: asyncio.Lock
    grant: Grant | None = None
    until: float = 0.0


class TokenCache:
    """Grants by key, with a lock for each, so that many requests that need one token fetch it once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._slots: OrderedDict[TokenKey, _Slot] = OrderedDict()

    def get(self, key: TokenKey) -> Grant | None:
        """The grant of that key while it lives."""
        slot = self._slots.get(key)
        if slot is None or slot.grant is None or self._clock.monotonic() >= slot.until:
            return None
        self._slots.move_to_end(key)
        return slot.grant

    def put(self, key: TokenKey, grant: Grant) -> None:
        """Keep it for its life, counted from now."""
        slot = self._slot(key)
        slot.grant, slot.until = grant, self._clock.monotonic() + grant.life_seconds

    def drop(self, key: TokenKey, grant: Grant) -> None:
        """Forget this grant, unless another has taken its place."""
        slot = self._slots.get(key)
        if slot is not None and slot.grant is grant:
            slot.grant = None

    def lock(self, key: TokenKey) -> asyncio.Lock:
        """Held while a grant of that key is fetched."""
        return self._slot(key).lock

    def _slot(self, key: TokenKey) -> _Slot:
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = _Slot(asyncio.Lock())
            for old in [known for known, held in self._slots.items() if not held.lock.locked()]:
                if len(self._slots) <= _MOST or old == key:
                    break
                del self._slots[old]
        return slot
