"""One request to a registry, with all that it takes: redirects, credentials, and what its failure means.

Rules. (1) The first request goes without credentials, or with the header that was good last time; a challenge brings
the next. There is no ping. (2) A 401, 403 or 400 that carried a header is replayed once for each credential, the same
request with one header changed. (3) Redirects are followed here, at most 10: to another origin goes nothing but Accept,
Accept-Encoding, Range and User-Agent, and the connection goes to the address that was checked. (4) Credentials go to
the registry's origin and to a realm that `trust` allows, nowhere else.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from msgspec import Struct, field

from connector.errors import CredentialsError, OciSyncError, RegistryError
from connector.http_client import HttpFailure, Response
from connector.oci import trust
from connector.oci.answers import clean, describe, failure_of, with_login
from connector.oci.attempts import attempts
from connector.oci.auth import MAX_TOKEN_BYTES, AuthorizationDenied, Grant, TokenAnswer, TokenRequest, authorize
from connector.oci.challenge import Challenge, parse_challenges
from connector.oci.credentials import Credentials
from connector.oci.hosts import HostHeld, Hosts
from connector.oci.reference import Reference
from connector.oci.retry import RetryPolicy
from connector.oci.secret import Credential
from connector.oci.tokens import TokenKey
from connector.oci.trust import Origin, origin_of

_LOG = logging.getLogger(__name__)

_MAX_REDIRECTS = 10
_MOST_WARNINGS = 100
_WARNING = re.compile(r'299 - "([^"]{1,4096})"')
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_STALE = frozenset({400, 401, 403})  # ECR Public says 400 of an expired token, ECR 403, everybody else 401
_MAX_ERROR_BYTES = 64 << 10

Result = TypeVar("Result")


class Ask(Struct, frozen=True):
    """A request to a registry: what for (a phrase for messages), and what to send."""

    doing: str
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Exchange:
    """Requests on behalf of one credentials file. Shares connections, tokens and limits through Hosts."""

    def __init__(
        self,
        hosts: Hosts,
        credentials: Credentials,
        retry: RetryPolicy,
        told: Callable[[OciSyncError, int], None] | None = None,
    ) -> None:
        self.hosts = hosts
        self.credentials = credentials
        self._retry = retry
        self._told = told

    async def attempts(self, operation: Callable[[], Awaitable[Result]]) -> Result:
        """The operation's result, tried again as `retry` says after transient errors. Raises what it raised last."""
        return await attempts(operation, self._retry, self.hosts.clock, self._told)

    async def by_digest(self, reference: Reference, operation: Callable[[Reference], Awaitable[Result]]) -> Result:
        """Like `attempts`, for what a digest names: the mirrors of the registry are asked before it, each once."""
        mirrors = self.hosts.settings(reference.api_host).mirrors
        found = await self.hosts.mirrors.ask(mirrors, reference, operation) if mirrors else None
        return found if found is not None else await self.attempts(lambda: operation(reference))

    async def send(self, reference: Reference, ask: Ask, accepted: frozenset[int] = frozenset({200})) -> Response:
        """An open response with an accepted status. Raises RegistryError, CredentialsError; does not try again."""
        try:
            response = await self._authorized(reference, ask)
        except HostHeld as held:
            raise _held(ask, held) from held
        self._say_warnings(reference, response)
        if response.status in accepted:
            return response
        async with response:
            body = await _read_some(response) if ask.method != "HEAD" else b""
        error = describe(response, body, ask.doing, self.hosts.clock.now())
        if error.retry_after is not None:
            self.hosts.host(origin_of(response.url)).hold(error.retry_after)
        if error.reason in ("Unauthorized", "Forbidden"):
            candidates = await self.credentials.candidates(reference)
            raise with_login(error, self.credentials.told(candidates, reference.registry))
        raise error

    def _say_warnings(self, reference: Reference, response: Response) -> None:
        """Log what the registry wants people to know (distribution-spec, "Warnings"), each text once a process."""
        for value in response.header_values("warning")[:_MOST_WARNINGS]:
            match = _WARNING.match(value)
            said = (reference.api_host, clean(match[1]) if match else "")
            if match and said not in self.hosts.warnings_said and len(self.hosts.warnings_said) < _MOST_WARNINGS:
                self.hosts.warnings_said.add(said)
                _LOG.warning("%s warns: %s", *said, extra={"registry": said[0]})

    async def without_credentials(self, reference: Reference, ask: Ask) -> Response:
        """The response to the bare request, whatever its status; redirects are followed. Raises RegistryError."""
        try:
            return await self._follow(reference, ask, None)
        except HostHeld as held:
            raise _held(ask, held) from held

    async def grant(self, reference: Reference) -> Grant | None:
        """The header that was good for this reference last time, while it lives."""
        return self.hosts.tokens.get(self._key(reference, await self.credentials.candidates(reference)))

    async def _authorized(self, reference: Reference, ask: Ask) -> Response:
        candidates = await self.credentials.candidates(reference)
        key = self._key(reference, candidates)
        grant = self.hosts.tokens.get(key)
        response = await self._follow(reference, ask, grant)
        if not (response.status == 401 or (grant is not None and response.status in _STALE)):
            return response
        challenges = grant.challenges if grant else ()
        if origin_of(response.url) == self.hosts.origin(reference.api_host):  # storage has no say in this
            challenges = parse_challenges(response.header_values("www-authenticate")) or challenges
        if not challenges:
            return response
        await _drain(response, ask)
        async with self.hosts.tokens.lock(key):
            renewed = self.hosts.tokens.get(key)
            if renewed is not None and renewed is not grant:  # another request has fetched it while we waited
                grant = renewed
                response = await self._follow(reference, ask, renewed)
                if response.status not in _STALE:
                    return response
                await _drain(response, ask)
            if grant is not None:
                self.hosts.tokens.drop(key, grant)
                candidates = await self.credentials.candidates(reference, anew=True)
            return await self._with_each(reference, ask, challenges, candidates)

    async def _with_each(
        self, reference: Reference, ask: Ask, challenges: tuple[Challenge, ...], candidates: tuple[Credential, ...]
    ) -> Response:
        """The response to the first credential that is taken; to the last where none is."""
        key = self._key(reference, candidates)
        denied: RegistryError | None = None
        tries: tuple[Credential | None, ...] = candidates or (None,)
        for credential in tries:
            try:
                grant = await self._obtain(reference, ask, challenges, credential)
            except AuthorizationDenied as error:
                denied = self._denied(ask, reference, credential, error)
                continue
            response = await self._follow(reference, ask, grant)
            if response.status not in (401, 403):
                self.hosts.tokens.put(key, grant)
                return response
            if credential is tries[-1]:
                return response
            await _drain(response, ask)
        assert denied is not None
        raise denied

    async def _obtain(
        self, reference: Reference, ask: Ask, challenges: tuple[Challenge, ...], credential: Credential | None
    ) -> Grant:
        steps = authorize(challenges, _scope(reference), credential)
        try:
            request = next(steps)
            while True:
                request = steps.send(await self._token(reference, ask, request))
        except StopIteration as done:
            grant: Grant = done.value
            return grant

    async def _token(self, reference: Reference, ask: Ask, request: TokenRequest) -> TokenAnswer:
        """Ask the realm, if it may be asked. Redirects of a realm are answers like others, so never followed."""
        doing = f"{ask.doing}, asking for a token"
        addresses, realm = await self._checked_realm(reference, doing, request)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": self.hosts.user_agent}
        if request.authorization is not None:
            headers["Authorization"] = request.authorization.reveal()
        body = None
        if request.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = request.form.reveal().encode()
        try:
            host = self.hosts.host(realm)
            async with await host.send(request.method, request.url, headers, body, addresses) as response:
                answer = TokenAnswer(response.status, await response.body(MAX_TOKEN_BYTES))
        except HttpFailure as failure:
            raise failure_of(failure, doing, realm.authority) from failure
        if answer.status == 429 or answer.status >= 500:
            error = describe(response, answer.body, doing, self.hosts.clock.now())
            if error.retry_after is not None:
                host.hold(error.retry_after)
            raise error
        return answer

    async def _checked_realm(
        self, reference: Reference, doing: str, request: TokenRequest
    ) -> tuple[tuple[str, ...], Origin]:
        registry = self.hosts.origin(reference.api_host)
        try:
            realm = origin_of(request.url)
        except ValueError as error:
            raise _realm_refused(doing, reference, "the realm", str(error)) from error
        addresses: tuple[str, ...] = ()
        trusted = self.hosts.settings(reference.api_host).trusted_realms
        if realm.authority != registry.authority and not trust.is_named(realm, trusted):
            addresses = await self._addresses(realm, doing)
        refusal = trust.refusal_of_realm(
            registry, realm, addresses, trusted, with_credentials=request.with_credentials,
            registry_is_local=bool(addresses) and await self._is_local(registry, doing),
        )  # fmt: skip
        if refusal is not None:
            raise _realm_refused(doing, reference, f"the realm {realm.authority}", refusal)
        return addresses, realm

    async def _follow(self, reference: Reference, ask: Ask, grant: Grant | None) -> Response:
        registry = self.hosts.origin(reference.api_host)
        current, url = registry, f"{registry.scheme}://{registry.authority}{ask.path}"
        addresses: tuple[str, ...] = ()
        for _ in range(_MAX_REDIRECTS + 1):
            headers = {"User-Agent": self.hosts.user_agent, "Accept-Encoding": "identity", **ask.headers}
            if grant is not None and current == registry:
                headers["Authorization"] = grant.authorization.reveal()
            started = self.hosts.clock.monotonic()
            try:
                response = await self.hosts.host(current).send(ask.method, url, headers, None, addresses)
            except HttpFailure as failure:
                self.hosts.observed(reference.registry, ask.method, None, started)
                raise failure_of(failure, ask.doing, current.authority) from failure
            self.hosts.observed(reference.registry, ask.method, response, started)
            if response.status not in _REDIRECTS:
                return response
            location = response.header("location")
            await _drain(response, ask)
            try:
                url = trust.resolve_location(url, location)
                target = origin_of(url)
            except ValueError as error:
                raise _redirect_refused(ask, current, location, str(error)) from error
            addresses = await self._checked_target(ask, registry, current, target)
            current = target
        raise RegistryError(
            reason="RedirectRefused",
            doing=ask.doing,
            cause=f"{reference.api_host} redirected more than {_MAX_REDIRECTS} times, last to {current.authority}",
            remedy="ask who runs the registry",
            transient=True,
        )

    async def _checked_target(self, ask: Ask, registry: Origin, current: Origin, target: Origin) -> tuple[str, ...]:
        """The addresses to connect to; empty where the registry itself is the target."""
        if target == registry:
            return ()
        addresses = await self._addresses(target, ask.doing)
        is_local = await self._is_local(registry, ask.doing)
        refusal = trust.refusal_of_redirect(current, target, addresses, registry_is_local=is_local)
        if refusal is not None:
            raise _redirect_refused(ask, current, target.authority, refusal)
        return addresses

    async def _is_local(self, registry: Origin, doing: str) -> bool:
        """Whether all its addresses are private ones: a public registry can add one to its name."""
        addresses = await self._addresses(registry, doing)
        return trust.is_local(registry.host) or (bool(addresses) and all(map(trust.is_local, addresses)))

    async def _addresses(self, origin: Origin, doing: str) -> tuple[str, ...]:
        try:
            return await self.hosts.addresses(origin)
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
            cause = getattr(error, "strerror", None) or "its name cannot be resolved"
            raise failure_of(HttpFailure("connect", cause), doing, origin.authority) from error

    def _key(self, reference: Reference, candidates: tuple[Credential, ...]) -> TokenKey:
        return reference.api_host, _scope(reference), tuple(candidate.fingerprint for candidate in candidates)

    def _denied(
        self, ask: Ask, reference: Reference, credential: Credential | None, denial: AuthorizationDenied
    ) -> RegistryError:
        used = f"with {credential.entry} of {self.credentials}" if credential else "without credentials"
        remedy = f"check the entry for {reference.registry} in credentials_path (operator)"
        if credential is None:
            remedy = f"give the task a credentials_path with an entry for {reference.registry} (operator)"
        if denial.is_malformed:
            remedy = "check for a proxy in between (operator); if there is none, ask who runs the registry"
        return RegistryError(
            reason="Forbidden" if denial.status == 403 else "Unauthorized",
            doing=ask.doing,
            cause=f"{reference.api_host}, asked {used}: {denial}",
            remedy=remedy,
        )


def _held(ask: Ask, held: HostHeld) -> RegistryError:
    return RegistryError(
        reason="RateLimited",
        doing=ask.doing,
        cause=f"{held.authority} asked for rest; {held.seconds:.0f} s of it are left",
        remedy="it is asked again after that time",
        transient=False,  # not within this tick
        retry_after=held.seconds,
    )


def _scope(reference: Reference) -> str:
    return f"repository:{reference.repository}:pull"


async def _drain(response: Response, ask: Ask) -> None:
    """Read the little that is left, so that the connection can be used again."""
    async with response:
        if ask.method != "HEAD":
            await _read_some(response)


async def _read_some(response: Response) -> bytes:
    try:
        return await response.body(_MAX_ERROR_BYTES)
    except HttpFailure:
        return b""


def _redirect_refused(ask: Ask, current: Origin, location: str, cause: str) -> RegistryError:
    shown = re.sub(r"//[^/]*@", "//***@", location.partition("?")[0])[:200]  # queries hold signatures
    return RegistryError(
        reason="RedirectRefused",
        doing=ask.doing,
        cause=f"{current.authority} redirects to {shown!r}, which is not followed: {cause}",
        remedy="ask who runs the registry",
    )


def _realm_refused(doing: str, reference: Reference, realm: str, cause: str) -> CredentialsError:
    return CredentialsError(
        reason="RealmRefused",
        doing=doing,
        cause=f"{realm} that {reference.api_host} names gets no credentials: {cause}",
        remedy=f"if it is right, name it in registries.{reference.registry}.trusted_realms of worker.yaml (operator)",
    )
