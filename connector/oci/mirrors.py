"""Mirrors of a registry: other places where what a digest names may be had.

Rules. (1) A mirror is asked for digests only. What a tag names is the registry's own word, so a mirror that lags behind
never brings an older release back. (2) What a mirror sends is hashed like everything else; it need not be trusted with
more than the knowledge of what is pulled. (3) It gets no credentials but those that are kept for its own host. (4) Each
is asked once, in the order of the setting; whatever fails, the next one is asked and the registry last, and that mirror
is left alone for a while, in this repository.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from connector.errors import CredentialsError, IntegrityError, OciSyncError, RegistryError
from connector.oci.clock import Clock
from connector.oci.reference import Reference, parse_host, parse_repository

Result = TypeVar("Result")

_LOG = logging.getLogger(__name__)

_FIRST_REST_SECONDS = 60.0
_LONGEST_REST_SECONDS = 900.0


class Mirror(Struct, frozen=True):
    """A mirror as `worker.yaml` names it: `host[:port]`, and what stands before the registry's own repositories."""

    host: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.host}/{self.prefix}" if self.prefix else self.host

    def reference(self, reference: Reference) -> Reference:
        """The reference's repository on this mirror."""
        repository = f"{self.prefix}/{reference.repository}" if self.prefix else reference.repository
        return replace(reference, registry=self.host, repository=repository, mirror_of=reference.registry)


def parse_mirror(text: str) -> Mirror:
    """`host[:port][/prefix]` as a Mirror. Raises ValueError."""
    host, _, prefix = text.partition("/")
    return Mirror(parse_host(host), parse_repository(prefix) if prefix else "")


class Mirrors:
    """Which mirrors rest. Shared by all sources of a process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rests: dict[tuple[Mirror, str], tuple[float, float]] = {}  # (mirror, repository) → until, for how long

    async def ask(
        self, mirrors: tuple[Mirror, ...], reference: Reference, operation: Callable[[Reference], Awaitable[Result]]
    ) -> Result | None:
        """What the first mirror that can gives; None where none can, or all rest."""
        for mirror in mirrors:
            until, _ = self._rests.get((mirror, reference.repository), (0.0, 0.0))
            if self._clock.monotonic() < until:
                continue
            try:
                result = await operation(mirror.reference(reference))
            except (RegistryError, CredentialsError, IntegrityError) as error:
                self._failed(mirror, reference, error)
            else:
                self._rests.pop((mirror, reference.repository), None)
                return result
        return None

    def _failed(self, mirror: Mirror, reference: Reference, error: OciSyncError) -> None:
        """Let it rest, longer each time, and say so once a rest."""
        key, now = (mirror, reference.repository), self._clock.monotonic()
        until, before = self._rests.get(key, (0.0, 0.0))
        if now < until:
            return  # requests that were under way together
        seconds = min(max(_FIRST_REST_SECONDS, before * 2), _LONGEST_REST_SECONDS)
        self._rests[key] = (now + seconds, seconds)
        # One that gets its content later lacks each release for a while.
        _LOG.log(
            logging.INFO if error.reason == "NotFound" else logging.WARNING,
            "mirror %s of %s is left alone for %.0f s: %s", mirror, reference.registry, seconds, error,
            extra={"registry": mirror.host, "reason": error.reason},
        )  # fmt: skip
