"""What a reference names now, the manifest behind a digest, and the bytes of a blob.

Rules. (1) A tag is resolved by one HEAD; everything after goes by digest. (2) The hash of the received bytes is the
digest; headers are hints. Where a HEAD brings no usable digest, or is not allowed, the manifest is read and hashed.
(3) Blobs are never asked about by HEAD, configs and foreign `urls` never fetched. (4) Sources with one reference and
one credentials file share a HEAD.
"""

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct

from connector.errors import IntegrityError, LayerError, OciSyncError, RegistryError
from connector.http_client import HttpFailure, Response, gunzip
from connector.oci.answers import failure_of, is_html, not_a_registry
from connector.oci.credentials import Credentials
from connector.oci.digest import Digest, algorithm_of, digest_of, parse_digest
from connector.oci.exchange import Ask, Exchange
from connector.oci.hosts import Hosts
from connector.oci.manifest import (
    ACCEPT,
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    Manifest,
    choose,
    essence,
    parse_manifest,
)
from connector.oci.platform import Platform
from connector.oci.reference import Reference
from connector.oci.retry import RetryPolicy
from connector.oci.trust import origin_of

_LOG = logging.getLogger(__name__)

_DEFAULT_RETRY = RetryPolicy()
_MAX_DEPTH = 3  # of indexes in indexes; what build tools make has one
_MOST_REMEMBERED = 8  # manifests that a HEAD-less resolve has read already, 4 MiB each at most
_NO_HEAD = frozenset({405, 501})
_READABLE = frozenset({200})
_MANIFEST_HEADERS = {"Accept": ACCEPT}


class Pulled(Struct, frozen=True):
    """The manifest to take the layers from. `artifact_digest` and `media_type` are those of what the reference names.

    `from_index`: that is an index, and the manifest one of its images.
    """

    artifact_digest: Digest
    manifest: Manifest
    from_index: bool
    media_type: str


class _Read(Struct, frozen=True):
    """A manifest as it came; `told_digest` is what its Docker-Content-Digest says, None where that is unusable."""

    body: bytes
    content_type: str
    told_digest: Digest | None


class Registry:
    """Registries as one credentials file opens them. Cheap to make; connections and tokens are in Hosts.

    `told` hears of each attempt that failed and is made again: the error, and the number of the next one.
    """

    def __init__(
        self,
        hosts: Hosts,
        credentials_path: Path | None = None,
        retry: RetryPolicy = _DEFAULT_RETRY,
        *,
        max_layers: int = 1000,
        told: Callable[[OciSyncError, int], None] | None = None,
    ) -> None:
        self.exchange = Exchange(hosts, Credentials(credentials_path, hosts.helpers), retry, told)
        self._credentials_path = credentials_path
        self._max_layers = max_layers
        self._remembered: OrderedDict[tuple[str, str, Digest], _Read] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Registry {self._credentials_path or 'anonymous'}>"

    async def head(self, reference: Reference) -> Descriptor:
        """What the reference names now: digest, media type, size (0 where the registry does not say).

        One HEAD on a quiet tick. Raises RegistryError, CredentialsError.
        """
        return await self.exchange.hosts.heads.share(self._flight(reference), lambda: self._attempt_head(reference))

    async def manifest(self, reference: Reference, digest: Digest, platform: Platform | None = None) -> Pulled:
        """The manifest behind this digest of the reference's repository; of an index, the one for the platform.

        Where the digest that a tag named a moment ago is gone, the tag is resolved once more, and `artifact_digest` is
        what it names then. Raises RegistryError (TagMoved: that is gone too), IntegrityError, LayerError.
        """
        try:
            return await self._pull(reference, digest, platform)
        except RegistryError as error:
            if error.reason != "TagMoved":
                raise
            _LOG.info("%s: %s; the tag is resolved once more", error.doing, error.cause)
        self.exchange.hosts.heads.forget(self._flight(reference))
        return await self._pull(reference, (await self.head(reference)).digest, platform)

    async def _pull(self, reference: Reference, digest: Digest, platform: Platform | None) -> Pulled:
        document = await self._document(reference, digest)
        top, depth = document, 0
        while isinstance(document, Index):
            depth += 1
            if depth > _MAX_DEPTH:
                raise _too_deep(reference, digest)
            child = choose(document, platform, f"choosing an image of {reference}")
            document = await self._document(reference, child.digest, parent=document.digest)
        if len(document.layers) > self._max_layers:
            raise _too_many_layers(reference, len(document.layers), self._max_layers)
        return Pulled(digest, document, document is not top, top.media_type)

    @asynccontextmanager
    async def blob(
        self, reference: Reference, layer: Descriptor, doing: str, offset: int = 0
    ) -> AsyncIterator[Response]:
        """An open response with the blob's bytes, from `offset` on if its status is 206. Raises RegistryError."""
        headers = {"Accept": "*/*"} | ({"Range": f"bytes={offset}-"} if offset else {})
        ask = Ask(doing, "GET", _path(reference, "blobs", layer.digest), headers)
        async with await self.exchange.send(
            reference, ask, frozenset({200, 206, 416}) if offset else _READABLE
        ) as response:
            yield response

    def _flight(self, reference: Reference) -> Hashable:
        return reference.api_host, reference.repository, reference.target, self._credentials_path

    async def _attempt_head(self, reference: Reference) -> Descriptor:
        return await self.exchange.attempts(lambda: self._head(reference))

    async def _head(self, reference: Reference) -> Descriptor:
        ask = self._ask(reference, "HEAD", reference.target, f"resolving {reference}")
        response = await self.exchange.send(reference, ask, _READABLE | _NO_HEAD)
        async with response:
            if is_html(response.header("content-type")):
                raise not_a_registry(response, "with a web page", ask.doing)
            digest = reference.digest or _digest_header(response)
            media_type = essence(response.header("content-type"))
            size = response.content_length or 0
        if response.status == 200 and digest is not None:
            return Descriptor(media_type, digest, size)
        return await self._resolve_by_body(reference)

    async def _resolve_by_body(self, reference: Reference) -> Descriptor:
        """The registry's HEAD tells no digest (Amazon ECR, Red Hat, old proxies): read the manifest and hash it."""
        ask = self._ask(reference, "GET", reference.target, f"resolving {reference} by its manifest")
        read = await self._read(reference, ask)
        digest = digest_of(read.body) if reference.digest is None else reference.digest
        self._say_other_digest(reference, read)
        self._remember(reference, digest, read)
        return Descriptor(essence(read.content_type), digest, len(read.body))

    async def _document(self, reference: Reference, digest: Digest, parent: Digest | None = None) -> Manifest | Index:
        doing = f"reading the manifest {digest} of {reference}"
        try:
            known = self._remembered.pop((reference.api_host, reference.repository, digest), None)
            if known is not None:
                body, content_type = self._checked(reference, digest, doing, known)
            else:
                body, content_type = await self.exchange.by_digest(
                    reference, lambda place: self._verified(place, digest, doing)
                )
        except RegistryError as error:
            # Made here, behind the attempts: asking again for a digest that is gone only makes the tick late.
            if error.reason == "NotFound" and parent is not None:
                raise _incomplete(reference, digest, parent, error) from error
            if error.reason == "NotFound" and reference.digest is None:
                raise _tag_moved(reference, digest, error) from error
            raise
        return parse_manifest(body, digest, content_type, doing)

    async def _verified(self, reference: Reference, digest: Digest, doing: str) -> tuple[bytes, str]:
        read = await self._read(reference, self._ask(reference, "GET", digest, doing))
        return self._checked(reference, digest, doing, read)

    def _checked(self, reference: Reference, digest: Digest, doing: str, read: _Read) -> tuple[bytes, str]:
        body = read.body
        if digest_of(body, algorithm_of(digest)) != digest:
            body = _decoded(body, digest, doing, reference.api_host)
        return body, read.content_type

    async def _read(self, reference: Reference, ask: Ask) -> _Read:
        async with await self.exchange.send(reference, ask) as response:
            content_type = response.header("content-type")
            if is_html(content_type):
                raise not_a_registry(response, f"with a web page{_off_site(response, reference)}", ask.doing)
            try:
                body = await response.body(MAX_MANIFEST_BYTES)
            except HttpFailure as failure:
                if failure.kind == "too_large":
                    raise _manifest_too_large(ask.doing, reference, failure) from failure
                raise failure_of(failure, ask.doing, origin_of(response.url).authority) from failure
            if not body:
                raise not_a_registry(response, "without a body", ask.doing)
            return _Read(body, content_type, _digest_header(response))

    def _say_other_digest(self, reference: Reference, read: _Read) -> None:
        """Log, once a host, that it names a digest which its own bytes do not have; the bytes count."""
        told, said = read.told_digest, (reference.api_host, "another digest")
        said_before = self.exchange.hosts.warnings_said
        if told is None or digest_of(read.body, algorithm_of(told)) == told or said in said_before:
            return
        said_before.add(said)
        _LOG.warning(
            "resolving %s: %s names %s and sends a manifest that hashes to %s; the hash counts",
            reference, reference.api_host, told, digest_of(read.body),
            extra={"registry": reference.registry, "reason": "DigestMismatch"},
        )  # fmt: skip

    def _ask(self, reference: Reference, method: str, target: str, doing: str) -> Ask:
        return Ask(doing, method, _path(reference, "manifests", target), _MANIFEST_HEADERS)

    def _remember(self, reference: Reference, digest: Digest, read: _Read) -> None:
        self._remembered[reference.api_host, reference.repository, digest] = read
        while len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)


def _path(reference: Reference, kind: str, target: str) -> str:
    """Path and query. A mirror that serves several registries tells them apart by `ns`, as containerd asks it."""
    path = f"/v2/{reference.repository}/{kind}/{target}"
    return f"{path}?ns={quote(reference.mirror_of, safe='')}" if reference.mirror_of else path


def _digest_header(response: Response) -> Digest | None:
    """The digest that the registry names; None where it is absent, malformed or of an unknown algorithm."""
    try:
        return parse_digest(response.header("docker-content-digest").strip())
    except ValueError:
        return None


def _decoded(body: bytes, digest: Digest, doing: str, host: str) -> bytes:
    """What the digest describes, for a server that compresses although it was asked not to. Raises IntegrityError."""
    try:
        content = gunzip(body, MAX_MANIFEST_BYTES)
    except ValueError:
        content = b""
    if digest_of(content, algorithm_of(digest)) == digest:
        return content
    raise IntegrityError(
        reason="DigestMismatch",
        doing=doing,
        cause=f"{host} sent {len(body)} bytes that hash to {digest_of(body, algorithm_of(digest))}",
        remedy="if it stays: push the artifact again, or look for a proxy that rewrites bodies (operator)",
    )


def _off_site(response: Response, reference: Reference) -> str:
    """GHCR is known to redirect a manifest to its web site; then say so."""
    host = origin_of(response.url).authority
    return "" if host == reference.api_host else f", for {reference.api_host} had sent us off-site"


def _incomplete(reference: Reference, digest: Digest, parent: Digest, error: OciSyncError) -> RegistryError:
    return RegistryError(
        reason="NotFound",
        doing=error.doing,
        cause=f"the index {parent} lists {digest}, which {reference.registry} does not have ({error.cause})",
        remedy="push the artifact again, with all its images (publisher)",
    )


def _tag_moved(reference: Reference, digest: Digest, error: OciSyncError) -> RegistryError:
    return RegistryError(
        reason="TagMoved",
        doing=error.doing,
        cause=f"{reference.registry} named {digest} a moment ago and does not know it now ({error.cause})",
        remedy="the tag moved or its replicas differ; the next tick starts anew",
    )


def _manifest_too_large(doing: str, reference: Reference, failure: HttpFailure) -> RegistryError:
    return RegistryError(
        reason="ManifestTooLarge",
        doing=doing,
        cause=f"{reference.api_host} sent {failure}; a manifest has at most {MAX_MANIFEST_BYTES >> 20} MiB",
        remedy="push fewer layers or shorter annotations (publisher)",
    )


def _too_deep(reference: Reference, digest: Digest) -> RegistryError:
    return RegistryError(
        reason="ManifestInvalid",
        doing=f"choosing an image of {reference}",
        cause=f"the index {digest} holds indexes more than {_MAX_DEPTH} deep",
        remedy="push an index that lists its images directly (publisher)",
    )


def _too_many_layers(reference: Reference, count: int, most: int) -> LayerError:
    return LayerError(
        reason="TooLarge",
        doing=f"reading the manifest of {reference}",
        cause=f"it has {count} layers, and limits.max_layers is {most}",
        remedy="raise limits.max_layers (operator), or push archives instead of single files (publisher)",
    )
