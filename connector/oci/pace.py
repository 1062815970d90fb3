"""How many exchanges a host gets at once: more, while that makes no answer late. Pure.

Rules. (1) Where a user named a number, it is that number. (2) Otherwise it begins at 8. After as many answers as may be
under way, all of them given while every slot was taken, their mean is compared with the shortest answer ever. Not much
longer means that the round trip sets the pace, and not the host; under 40 ms, that the host has the next request at
hand when it ends one, and nobody waits long for it: the number grows by half. Much longer and over 80 ms, that they
wait for each other: it goes back. The time is that of the whole exchange, its body included. (3) A host that once said
it is asked too much (429, 503) keeps the 8 for good.
"""

START = 8
MOST = 32
_NO_SLOWER = 1.4
_SLOWER = 2.0
_SOON_SECONDS = 0.04
_LATE_SECONDS = 0.08


class Pace:
    """The number of one host: `limit`."""

    def __init__(self, fixed: int | None = None) -> None:
        self.limit = fixed or START
        self._may_move = fixed is None
        self._shortest = float("inf")
        self._seconds = 0.0
        self._count = 0

    def __repr__(self) -> str:
        return f"<Pace {self.limit}{'' if self._may_move else ', fixed'}>"

    def answered(self, seconds: float, *, all_taken: bool) -> None:
        """One exchange ended after that long; `all_taken` if no slot was free meanwhile."""
        if not self._may_move:
            return
        self._shortest = min(self._shortest, seconds)
        if not all_taken:
            return
        self._seconds += seconds
        self._count += 1
        if self._count < self.limit:
            return
        mean, self._seconds, self._count = self._seconds / self._count, 0.0, 0
        if mean <= max(_NO_SLOWER * self._shortest, _SOON_SECONDS):
            self.limit = min(MOST, self.limit + self.limit // 2)
        elif mean > max(_SLOWER * self._shortest, _LATE_SECONDS):
            self.limit = max(START, self.limit - self.limit // 4)

    def refused(self) -> None:
        """The host said that it is asked too much."""
        if self._may_move:
            self.limit = START
            self._may_move = False
