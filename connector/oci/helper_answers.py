"""What credential helpers answered, for all sources of a process: a helper is a program, and starting it is dear.

Rules. (1) An answer is kept for a quarter of an hour, or until a registry refuses it. (2) Sources that need the same
answer at the same moment start the helper once; who is refused within seconds of an answer gets that answer, for asking
again so soon would bring the same. (3) A failure is shared by those who wait for it; it is kept, for a minute, only for
those who have another credential. (4) Bounded.
"""

from connector.errors import CredentialsError
from connector.oci.clock import Clock
from connector.oci.credential_file import Helper
from connector.oci.credential_helpers import docker
from connector.oci.flights import Flights
from connector.oci.secret import Credential

_KEPT_SECONDS = 900.0  # the shortest life known of what a helper gives is an hour (Google)
_MOMENT_SECONDS = 5.0  # sources of one generate tick are refused within it; the tick after it is 10 s away or more
_BROKEN_SECONDS = 60.0
_MOST = 1000  # helpers times registries


class HelperAnswers:
    """Answers by helper and key, each a credential or None for "not found"."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[Helper, tuple[float, Credential | None]] = {}
        self._broken_until: dict[Helper, float] = {}
        self._flights: Flights[Credential | None] = Flights(clock, _MOMENT_SECONDS)

    def __repr__(self) -> str:
        return f"<HelperAnswers {len(self._kept)} kept>"

    async def ask(self, helper: Helper, *, anew: bool = False) -> Credential | None:
        """What the helper says. `anew`: a registry refused what it said last. Raises CredentialsError HelperFailed."""
        asked, answer = self._kept.get(helper, (0.0, None))
        if helper in self._kept and not anew and self._clock.monotonic() - asked < _KEPT_SECONDS:
            return answer
        return await self._flights.share(helper, lambda: self._start(helper))

    async def ask_if_it_works(self, helper: Helper, *, anew: bool = False) -> Credential | None:
        """What the helper says, for one who can do without it; None where it fails, and for a minute after."""
        if self._clock.monotonic() < self._broken_until.get(helper, 0.0):
            return None
        try:
            return await self.ask(helper, anew=anew)
        except CredentialsError:
            if len(self._broken_until) >= _MOST:
                self._broken_until.clear()
            self._broken_until[helper] = self._clock.monotonic() + _BROKEN_SECONDS
            return None

    async def _start(self, helper: Helper) -> Credential | None:
        answer = await docker.credential(helper.name, helper.key)
        self._kept.pop(helper, None)
        self._kept[helper] = (self._clock.monotonic(), answer)
        while len(self._kept) > _MOST:
            del self._kept[next(iter(self._kept))]
        return answer
