"""How many exchanges a host gets at once: more, while the round trip and not the host sets the pace. Pure.

Rules. (1) Where a user named a number, it is that number. (2) Otherwise it begins at 8. After as many answers as may be
under way, all of them given while every slot was taken, their mean is compared with the shortest answer ever: not much
longer means that more would come no slower, and the number grows by half; much longer, that they wait for each other,
and it goes back. The time is that of the whole exchange, so large bodies, which share the line, never make it grow.
(3) A host that once said it is asked too much (429, 503) keeps the 8 for good.
"""

START = 8
MOST = 32
_NO_SLOWER = 1.4
_SLOWER = 2.0


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
        if mean <= _NO_SLOWER * self._shortest:
            self.limit = min(MOST, self.limit + self.limit // 2)
        elif mean > _SLOWER * self._shortest:
            self.limit = max(START, self.limit - self.limit // 4)

    def refused(self) -> None:
        """The host said that it is asked too much."""
        if self._may_move:
            self.limit = START
            self._may_move = False
