"""`oci-sync doctor REF`: walks from the reference to the first blob and says what it sees, secrets left out."""

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import Struct

from connector.cli.output import OutputFormat, say_error, show
from connector.cli.registry_client import open_registry
from connector.config.worker_file import load_worker
from connector.errors import OciSyncError
from connector.layers.limits import max_decompressed_size
from connector.oci.blob import Blobs
from connector.oci.challenge import Challenge, parse_challenges
from connector.oci.exchange import Ask
from connector.oci.manifest import ACCEPT
from connector.oci.platform import Platform, parse_platform
from connector.oci.quirks import quirks_of
from connector.oci.reference import Reference, parse_reference
from connector.oci.registry import Registry
from connector.oci.retry import RetryPolicy
from connector.oci.tags import list_tags
from connector.oci.trust import origin_of

_MOST_TAGS = 20
_ONCE = RetryPolicy(max_attempts=1)  # a diagnosis shows the first failure; retries would only hide it


def doctor(
    artifact: Annotated[str, typer.Argument(metavar="REF", help="As in a flow: registry.example.com/org/app:prod.")],
    credentials: Annotated[
        Path | None, typer.Option("--credentials", help="Credentials file, as a task's credentials_path.")
    ] = None,
    platform: Annotated[str | None, typer.Option("--platform", help="Which image of an index: linux/amd64.")] = None,
    worker_file: Annotated[Path | None, typer.Option("-c", "--worker", help="worker.yaml, for registries.")] = None,
    output: Annotated[OutputFormat, typer.Option("-o", "--output", help="How the steps are shown.")] = (
        OutputFormat.TABLE
    ),
) -> None:
    """Look at a registry the way a tick does, one step at a time."""
    reference = parse_reference(artifact)
    wish = parse_platform(platform) if platform else None
    worker = load_worker(worker_file)

    async def examine() -> tuple[list[dict[str, Any]], OciSyncError | None]:
        async with open_registry(worker, credentials, _ONCE) as registry:
            most = max_decompressed_size(worker.limits.max_total_size)
            return await _examine(_Patient(registry, reference, wish, credentials, most))

    rows, failure = asyncio.run(examine())
    show(rows, output)
    if failure is not None:
        say_error(failure)
        raise typer.Exit(1)


class _Patient(Struct, frozen=True):
    registry: Registry
    reference: Reference
    platform: Platform | None
    credentials: Path | None
    max_bytes: int


async def _examine(patient: _Patient) -> tuple[list[dict[str, Any]], OciSyncError | None]:
    """A row for each step that was reached, and what ended the walk."""
    rows: list[dict[str, Any]] = []
    started = time.monotonic()

    def note(step: str, result: str, seen: str) -> None:
        nonlocal started
        now = time.monotonic()
        rows.append({"step": step, "result": result, "ms": round((now - started) * 1000), "seen": seen})
        started = now

    walk = _walk(patient)
    try:
        async for step, seen in walk:
            note(step, "ok", seen)
    except OciSyncError as error:
        note("next step", error.reason, error.cause)
        if error.reason == "NotFound" and rows[-2]["step"] in ("challenge", "token"):
            note("tags", "hint", await _tags(patient))
        return rows, error
    finally:
        await walk.aclose()
    return rows, None


async def _tags(patient: _Patient) -> str:
    """What else the repository holds, if that can be had."""
    try:
        tags = await list_tags(patient.registry, patient.reference)
    except OciSyncError as error:
        return f"cannot be listed: {error.cause}"
    more = f" and {len(tags) - _MOST_TAGS} more" if len(tags) > _MOST_TAGS else ""
    return (", ".join(tags[:_MOST_TAGS]) or "none") + more


async def _walk(patient: _Patient) -> AsyncGenerator[tuple[str, str], None]:
    registry, reference = patient.registry, patient.reference
    exchange = registry.exchange
    origin = exchange.hosts.origin(reference.api_host)
    latest = " (no tag given)" if reference.is_default_tag else ""
    yield "reference", f"{reference.repository} {reference.target}{latest} at {origin.scheme}://{origin.authority}"

    found = await exchange.credentials.candidates(reference)
    names = ", ".join(candidate.entry for candidate in found)
    yield "credentials", f"{patient.credentials}: {names}" if names else "none for this registry; anonymous"

    ask = Ask(
        f"asking {reference.api_host} without credentials",
        "HEAD",
        f"/v2/{reference.repository}/manifests/{reference.target}",
        {"Accept": ACCEPT},
    )
    async with await exchange.without_credentials(reference, ask) as response:
        challenges = parse_challenges(response.header_values("www-authenticate"))
        server = response.header("server")[:60]
        status = response.status
    asked = "; ".join(_shown(challenge) for challenge in challenges) or "no challenge"
    yield "challenge", f"{status}, {asked}" + (f", server {server}" if server else "")

    head = await registry.head(reference)
    grant = await exchange.grant(reference)
    if grant is not None:
        scheme = grant.authorization.reveal().partition(" ")[0]
        yield "token", f"a {scheme} header, used for {grant.life_seconds:.0f} s"
    yield "head", f"{head.digest}, {head.media_type or 'no type'}, {head.size_bytes} bytes"

    pulled = await registry.manifest(reference, head.digest, patient.platform)
    layers = pulled.manifest.layers
    of = f"of the index, {pulled.manifest.digest}, " if pulled.from_index else ""
    yield "manifest", f"{of}{len(layers)} layers, {sum(layer.size_bytes for layer in layers)} bytes"

    if layers:
        first = layers[0]
        blobs = await Blobs(registry, max_bytes=patient.max_bytes).fetch(reference, [first])
        blob = blobs[first.digest]
        yield "blob", f"{blob.digest}, {blob.size_bytes} bytes, {first.media_type}: size and digest are right"

    for host, limit in exchange.hosts.rate_limits().items():
        yield "rate limit", f"{host}: {limit.remaining} of {limit.limit} left, window {limit.window_seconds} s"
    for quirk in quirks_of(reference.api_host):
        yield "known", f"{quirk.registry} {quirk.does}: {quirk.rule}"


def _shown(challenge: Challenge) -> str:
    parameters = dict(challenge.parameters)
    realm = parameters.get("realm", "")
    try:
        realm = origin_of(realm).authority
    except ValueError:
        realm = realm[:60]
    scope = parameters.get("scope", "no scope")[:120]
    return f"{challenge.scheme} of {realm or 'no realm'} ({scope})"
