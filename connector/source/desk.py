"""What is asked of one source while it runs: requests that wait, and whether it is paused."""

import asyncio

from connector.records.request import Request, RequestKind


class Desk:
    """At most one request of a kind waits; the newest one counts. One event loop uses it."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.paused = False
        self.shown_paused = False
        self.heard_of_pause = False  # since the topic began to be read, so what it says of pausing is older
        self._waiting: dict[RequestKind, Request] = {}
        self._done: set[str] = set()
        self._asked_here = False

    def __repr__(self) -> str:
        return f"<Desk {'paused' if self.paused else 'open'} {[kind.value for kind in self._waiting]}>"

    def post(self, request: Request) -> None:
        """Lay down a request that came through Kafka; one that was carried out already is passed over."""
        if request.kind is RequestKind.PAUSE:
            self.paused = True
        elif request.id not in self._done:
            self._waiting[request.kind] = request
        self.news.set()

    def resume(self) -> None:
        """The pause was taken back."""
        self.paused = False
        self.news.set()

    def ask_now(self) -> None:
        """A tick is wanted now, by somebody who asked this process."""
        self._asked_here = True
        self.news.set()

    def waiting(self, *kinds: RequestKind) -> list[Request]:
        """The requests of these kinds that wait, in the order in which they were asked."""
        found = [self._waiting[kind] for kind in kinds if kind in self._waiting]
        return sorted(found, key=lambda request: (request.at, request.id))

    def is_replaced(self, request: Request) -> bool:
        """Whether a newer one of its kind waits, which must stay in the topic until it is carried out itself."""
        return self._waiting.get(request.kind, request).id != request.id

    def done(self, request: Request) -> None:
        """It was carried out; should it be met again, it is passed over."""
        self._done.add(request.id)
        if self._waiting.get(request.kind) is request:
            del self._waiting[request.kind]

    def wants_tick(self) -> bool:
        """Whether a tick is asked for now, paused or not; asking from this process is thereby taken up."""
        asked, self._asked_here = self._asked_here, False
        return asked or RequestKind.TRIGGER in self._waiting
