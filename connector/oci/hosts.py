"""The hosts that this process talks to: their connections, limits and back-off, shared by all sources.

Rules. (1) A host has one HTTP client, made of its own settings: a client certificate or proxy of one registry never
serves another. (2) At most `concurrency` exchanges are open to a host (see `pace.py` where none is set), at most
`requests_per_second` begin. (3) After a Retry-After nobody asks that host before the time; who would have to wait long
is told so instead.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.request import getproxies_environment, proxy_bypass

from msgspec import Struct

from connector.http_client import HttpClient, HttpFailure, HttpOptions, Response, TransportName
from connector.oci.clock import Clock, SystemClock
from connector.oci.flights import Flights
from connector.oci.helper_answers import HelperAnswers
from connector.oci.manifest import Descriptor
from connector.oci.mirrors import Mirror, Mirrors
from connector.oci.pace import Pace
from connector.oci.reference import DOCKER_HUB_API, DOCKER_HUB_NAMES, split_host
from connector.oci.retry import LONGEST_HOLD_SECONDS, RateLimit, parse_rate_limit
from connector.oci.tokens import TokenCache
from connector.oci.trust import PORTS, Origin, address_literal, is_loopback, scheme_for

_ASKED_TOO_MUCH = (429, 503)
_MOST_ADDRESSES = 4  # of a name; each may cost the time-out of connecting
_RESOLVED_SECONDS = 60.0
_MOST_HOSTS = 500  # redirect targets come from outside; what is held for each must not grow for ever


class HostSettings(Struct, frozen=True):
    """What `worker.yaml` says under `registries` of one host.

    `plain_http` None: only for loopback literals; `concurrency` None: as `pace.py` has it.
    """

    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: str | None = None
    plain_http: bool | None = None
    concurrency: int | None = None
    requests_per_second: float | None = None
    trusted_realms: tuple[str, ...] = ()
    mirrors: tuple[Mirror, ...] = ()


class Observer(Protocol):
    """Who counts what is asked of registries. `registry` is the one that a reference names, never a redirect's host."""

    def registry_request(self, registry: str, method: str, code: int | None, seconds: float) -> None:
        """A request was answered, or (None) was not."""
        ...

    def rate_limit(self, registry: str, remaining: int, limit: int | None) -> None:
        """What the registry says of our budget."""
        ...

    def blob_bytes(self, registry: str, count: int) -> None:
        """Bytes of a blob arrived."""
        ...


class HostHeld(Exception):
    """The host asked not to be asked for longer than a request may wait. `authority` is its `host[:port]`."""

    def __init__(self, authority: str, seconds: float) -> None:
        self.authority = authority
        self.seconds = seconds
        super().__init__(f"{authority} asked for {seconds:.0f} s of rest")


class Host:
    """One `host[:port]`: its client and its limits. `rate_limit` is what it last said of its own."""

    def __init__(self, authority: str, settings: HostSettings, client: HttpClient, clock: Clock) -> None:
        self.authority = authority
        self.settings = settings
        self.client = client
        self.rate_limit: RateLimit | None = None
        self._clock = clock
        self._pace = Pace(settings.concurrency)
        self._under_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._held_until = 0.0
        self._next_start = 0.0

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        addresses: Sequence[str] = (),
    ) -> Response:
        """One exchange within the limits; closing the response frees its slot. Raises HttpFailure, HostHeld."""
        await self._take_slot()
        try:
            await self._wait()
            started = self._clock.monotonic()
            response = await self._send(method, url, headers, body, addresses[:_MOST_ADDRESSES])
        except BaseException:
            self._give_slot()
            raise
        response.when_closed(lambda: self._ended(response, started))
        self.rate_limit = _rate_limit(response) or self.rate_limit
        return response

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, addresses: Sequence[str]
    ) -> Response:
        """Of checked addresses, the first that can be connected to is used, and no other than these."""
        for address in addresses[:-1]:
            try:
                return await self.client.send(method, url, headers, body, address=address)
            except HttpFailure as failure:
                if failure.kind != "connect":
                    raise
        return await self.client.send(method, url, headers, body, address=addresses[-1] if addresses else None)

    def hold(self, seconds: float) -> None:
        """Nobody asks this host for that long."""
        self._held_until = max(self._held_until, self._clock.monotonic() + seconds)

    def _ended(self, response: Response, started: float) -> None:
        if response.status in _ASKED_TOO_MUCH:
            self._pace.refused()
        all_taken = self._under_way >= self._pace.limit
        self._pace.answered(self._clock.monotonic() - started, all_taken=all_taken)
        self._give_slot()

    async def _take_slot(self) -> None:
        if self._under_way < self._pace.limit and not self._waiting:
            self._under_way += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot was ours already
                self._give_slot()
            raise

    def _give_slot(self) -> None:
        self._under_way -= 1
        while self._waiting and self._under_way < self._pace.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._under_way += 1
                turn.set_result(None)

    async def _wait(self) -> None:
        now = self._clock.monotonic()
        start = max(now, self._held_until)
        if start - now > LONGEST_HOLD_SECONDS:
            raise HostHeld(self.authority, start - now)
        if self.settings.requests_per_second:
            start = max(start, self._next_start)
            self._next_start = start + 1 / self.settings.requests_per_second
        if start > now:
            await self._clock.sleep(start - now)


class Hosts:
    """All hosts, the tokens got from them, and the requests that are shared. One for a process; `async with`.

    `settings` are by `host[:port]` as users write it, with or without the scheme's own port; Docker Hub is `docker.io`.
    """

    def __init__(
        self,
        settings: Mapping[str, HostSettings] | None = None,
        *,
        transport: TransportName = "aiohttp",
        clock: Clock | None = None,
        user_agent: str = "oci-sync/0.1",
        environment_proxies: bool = True,
        options: HttpOptions | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.observer = observer
        self.clock = clock or SystemClock()
        self.tokens = TokenCache(self.clock)
        self.helpers = HelperAnswers(self.clock)
        self.heads: Flights[Descriptor] = Flights(self.clock)
        self.mirrors = Mirrors(self.clock)
        self.user_agent = user_agent
        self.warnings_said: set[tuple[str, str]] = set()
        self._settings = _by_host_and_port(settings or {})
        self._transport = transport
        self._environment_proxies = environment_proxies
        self._options = options or HttpOptions()
        self._hosts: dict[str, Host] = {}
        self._origins: dict[str, Origin] = {}  # of configured references, so few
        self._clients: dict[HttpOptions, HttpClient] = {}
        self._resolved: dict[tuple[str, int], tuple[float, tuple[str, ...]]] = {}

    def origin(self, api_host: str) -> Origin:
        """Where a registry's API is: plain HTTP by the rule of `trust.scheme_for`."""
        origin = self._origins.get(api_host)
        if origin is None:
            host, port = _host_and_port(api_host)
            scheme = scheme_for(host, self.settings(api_host).plain_http)
            origin = self._origins[api_host] = Origin(scheme, host, port or PORTS[scheme])
        return origin

    def settings(self, authority: str) -> HostSettings:
        """The settings of `host[:port]`; the defaults where there are none."""
        return self._settings.get(_host_and_port(authority), _DEFAULT_SETTINGS)

    def host(self, origin: Origin) -> Host:
        """The host of that origin."""
        key = f"{origin.scheme}://{origin.authority}"
        host = self._hosts.get(key)
        if host is None:
            while len(self._hosts) >= _MOST_HOSTS:
                del self._hosts[next(iter(self._hosts))]
            settings = self._settings.get((origin.host, origin.port), _DEFAULT_SETTINGS)
            client = self._client(origin, settings)
            host = self._hosts[key] = Host(origin.authority, settings, client, self.clock)
        return host

    def observed(self, registry: str, method: str, response: Response | None, started: float) -> None:
        """Tell the observer of one exchange that began at `started` (monotonic seconds)."""
        if self.observer is None:
            return
        took = self.clock.monotonic() - started
        self.observer.registry_request(registry, method, None if response is None else response.status, took)
        if response is not None:
            told = _rate_limit(response)
            if told is not None and told.remaining is not None:
                self.observer.rate_limit(registry, told.remaining, told.limit)

    def counting(self, registry: str, progress: Callable[[int], None]) -> Callable[[int], None]:
        """A progress that also tells the observer of the bytes that arrive."""
        observer = self.observer
        if observer is None:
            return progress

        def arrived(count: int) -> None:
            progress(count)
            if count > 0:  # negative: what came is thrown away
                observer.blob_bytes(registry, count)

        return arrived

    def rate_limits(self) -> dict[str, RateLimit]:
        """What hosts said of their limits, by `host[:port]`; for the status."""
        limits = ((name.partition("://")[2], host.rate_limit) for name, host in self._hosts.items())
        return {name: limit for name, limit in limits if limit is not None}

    async def addresses(self, origin: Origin) -> tuple[str, ...]:
        """All addresses of the origin's host, to be checked; the text itself where it is one. Raises OSError.

        Empty where a proxy resolves the name: then only the proxy can know, and its owner has decided.
        """
        literal = address_literal(origin.host)
        if literal is not None:
            return (str(literal),)
        if self.host(origin).client.uses_proxy:
            return ()
        key = (origin.host, origin.port)
        now = self.clock.monotonic()
        until, known = self._resolved.get(key, (0.0, ()))
        if known and now < until:
            return known
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._options.connect_seconds):
            infos = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        found = tuple(dict.fromkeys(str(info[4][0]) for info in infos))
        if len(self._resolved) >= _MOST_HOSTS:
            self._resolved.clear()
        self._resolved[key] = (now + _RESOLVED_SECONDS, found)
        return found

    async def aclose(self) -> None:
        """Close all connections."""
        clients, self._clients = list(self._clients.values()), {}
        self._hosts.clear()
        for client in clients:
            await client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _client(self, origin: Origin, settings: HostSettings) -> HttpClient:
        defaults = self._options
        options = HttpOptions(
            ca_file=settings.ca_file or defaults.ca_file,
            client_cert=settings.client_cert,
            client_key=settings.client_key,
            proxy=settings.proxy or defaults.proxy or self._environment_proxy(origin),
            connect_seconds=defaults.connect_seconds,
            silence_seconds=defaults.silence_seconds,
            head_seconds=defaults.head_seconds,
        )
        client = self._clients.get(options)
        if client is None:
            client = self._clients[options] = HttpClient(options, self._transport)
        return client

    def _environment_proxy(self, origin: Origin) -> str | None:
        """HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as most programs take them; never for loopback."""
        if not self._environment_proxies or is_loopback(origin.host) or proxy_bypass(origin.host):
            return None
        proxy = getproxies_environment().get(origin.scheme)
        return f"http://{proxy}" if proxy and "://" not in proxy else proxy


_DEFAULT_SETTINGS = HostSettings()


def _rate_limit(response: Response) -> RateLimit | None:
    return parse_rate_limit(response.header("ratelimit-limit"), response.header("ratelimit-remaining"))


def _by_host_and_port(settings: Mapping[str, HostSettings]) -> dict[tuple[str, int | None], HostSettings]:
    """The settings under the names as they are written, and under those that mean the same with the scheme's port."""
    written = {_host_and_port(name): value for name, value in settings.items()}
    meant: dict[tuple[str, int | None], HostSettings] = {}
    for (host, port), value in written.items():
        own = PORTS[scheme_for(host, value.plain_http)]
        if port in (None, own):
            meant[host, own if port is None else None] = value
    return meant | written


def _host_and_port(name: str) -> tuple[str, int | None]:
    """The parts of `host[:port]` as an Origin has them; the host of Docker Hub's API for its other names."""
    host, port = split_host(name.lower())
    if host in DOCKER_HUB_NAMES:
        host = DOCKER_HUB_API
    return host.strip("[]"), int(port) if port else None
