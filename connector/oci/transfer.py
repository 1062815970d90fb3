"""One blob on its way: where a transfer breaks off it goes on, and no byte more or other than promised is taken.

Rules. (1) A blob that is not exactly as long as its descriptor says, or hashes to something else, is refused. (2) The
answer to a `Range` is used only where it continues at the byte asked for. (3) A small blob is one piece in memory, a
larger one streams to the spool through one write buffer.
"""

import asyncio
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from connector.errors import IntegrityError, RegistryError
from connector.http_client import HttpFailure, Response, gunzip
from connector.oci.answers import failure_of
from connector.oci.digest import Digest, Hasher, algorithm_of, digest_of
from connector.oci.manifest import Descriptor
from connector.oci.reference import Reference
from connector.oci.registry import Registry
from connector.oci.spool import SMALL_BYTES, Blob, Spool, spool_failed
from connector.oci.trust import origin_of

Progress = Callable[[int], None]

_DECODED_BYTES = 256 << 10
_WRITE_BYTES = 1 << 20  # written at once, in a thread: so that a slow disk does not hold up the loop
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)


class Transfer:
    """One blob on its way. `attempt` may be called again: at the same place it goes on where the last one broke off."""

    def __init__(
        self,
        registry: Registry,
        reference: Reference,
        index: int,
        layer: Descriptor,
        spool: Spool,
        progress: Progress,
    ) -> None:
        self._registry = registry
        self._reference = reference
        self._index = index
        self._layer = layer
        self._spool = spool
        self._told = progress
        self._progress = progress
        self._decode = False
        self._place = reference
        self._url = ""  # where the bytes come from, once they do: after a redirect, the storage
        self._path: Path | None = None
        self._hasher = Hasher(algorithm_of(layer.digest))

    @property
    def doing(self) -> str:
        """What an error says was being done."""
        layer = self._layer
        kind = layer.media_type[:120] or "no media type"
        return f"fetching layer {self._index} ({kind}, {layer.digest}, {layer.size_bytes} bytes) of {self._reference}"

    @property
    def _host(self) -> str:
        """Who sends the bytes."""
        return origin_of(self._url).authority if self._url else self._place.api_host

    async def attempt(self, place: Reference) -> Blob:
        """The blob, from the registry or one of its mirrors.

        Raises RegistryError, CredentialsError, IntegrityError, LayerError.
        """
        if place.registry != self._place.registry:  # what another one sent may be why that failed
            self._restart()
            self._decode = False
        self._place, self._url = place, ""
        self._progress = self._registry.exchange.hosts.counting(place.registry, self._told)
        if self._layer.size_bytes <= SMALL_BYTES:
            return await self._small(place)
        return await self._large(place)

    async def _small(self, place: Reference) -> Blob:
        layer = self._layer
        async with self._registry.blob(place, layer, self.doing) as response:
            self._url = response.url
            self._check_length(response, layer.size_bytes)
            encoded = _is_encoded(response)
            try:
                data = await response.body(layer.size_bytes if not encoded else 2 * SMALL_BYTES)
            except HttpFailure as failure:
                if failure.kind == "too_large":
                    raise self._wrong_size(str(failure)) from failure
                raise failure_of(failure, self.doing, self._host) from failure
        if encoded and digest_of(data, algorithm_of(layer.digest)) != layer.digest:
            with suppress(ValueError):  # then what came is judged as it is
                data = gunzip(data, layer.size_bytes)
        self._check_end(len(data), digest_of(data, algorithm_of(layer.digest)))
        self._progress(len(data))
        return self._spool.keep(layer.digest, data)

    async def _large(self, place: Reference) -> Blob:
        layer = self._layer
        start = 0 if self._decode else self._hasher.size_bytes
        async with self._registry.blob(place, layer, self.doing, start) as response:
            self._url = response.url
            if start and not _continues(response, start, layer.size_bytes):
                self._restart()
                if response.status != 200:
                    raise self._bad_range(response)
            self._check_length(response, layer.size_bytes - self._hasher.size_bytes)
            encoded = _is_encoded(response)
            try:
                await self._receive(response)
                if encoded and not self._decode and self._hasher.size_bytes < layer.size_bytes:
                    raise self._wrong_size("it is shorter, and its Content-Encoding is gzip")
                self._check_end(self._hasher.size_bytes, self._hasher.digest)
            except IntegrityError:
                self._restart()
                self._decode = encoded  # perhaps it is right once decoded; the next attempt tells
                raise
            except RegistryError:
                if encoded:  # a Range might count encoded bytes, so nobody can go on from here
                    self._restart()
                raise
        assert self._path is not None
        return self._spool.adopt(layer.digest, layer.size_bytes, self._path)

    async def _receive(self, response: Response) -> None:
        decoder = zlib.decompressobj(wbits=31) if self._decode else None
        buffer = bytearray()
        self._path = self._path or self._spool.new_path()
        try:
            async for chunk in response.chunks():
                for data in (chunk,) if decoder is None else self._decoded(decoder, chunk):
                    if self._hasher.size_bytes + len(data) > self._layer.size_bytes:
                        raise self._wrong_size("it is longer than that")
                    self._hasher.update(data)
                    self._progress(len(data))
                    buffer += data
                    if len(buffer) >= _WRITE_BYTES:
                        full, buffer = buffer, bytearray()
                        await asyncio.to_thread(self._write, self._path, full)
        except HttpFailure as failure:
            raise failure_of(failure, self.doing, self._host) from failure
        finally:
            # What was hashed must be on disk, for the next attempt goes on behind it; without a path the disk refused.
            if self._path is not None:
                self._write(self._path, buffer)

    def _decoded(self, decoder: "zlib._Decompress", chunk: bytes) -> Iterator[bytes]:
        """What the chunk holds, in pieces: a few bytes may be a thousand times as many."""
        try:
            while piece := decoder.decompress(chunk, _DECODED_BYTES):
                yield piece
                chunk = decoder.unconsumed_tail
        except zlib.error:
            raise self._wrong_size("its Content-Encoding is gzip and its bytes are not") from None

    def _write(self, path: Path, data: bytearray) -> None:
        try:
            with path.open("ab") as file:
                file.write(data)
        except OSError as error:
            self._restart()  # which makes room, too
            self._path = None
            raise spool_failed(path.parent, error) from error

    def _restart(self) -> None:
        self._progress(-self._hasher.size_bytes)
        self._hasher = Hasher(algorithm_of(self._layer.digest))
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _check_length(self, response: Response, expected: int) -> None:
        length = response.content_length
        if length is not None and length != expected and not _is_encoded(response):
            raise self._wrong_size(f"Content-Length says {length} bytes where {expected} are due")

    def _check_end(self, size: int, digest: Digest) -> None:
        if size < self._layer.size_bytes:
            raise RegistryError(
                reason="Unreachable",
                doing=self.doing,
                cause=f"{self._host} broke off after {size} bytes",
                remedy="it is tried again; if it stays, look for a proxy that cuts, or push again (publisher)",
            )
        if digest != self._layer.digest:
            raise IntegrityError(
                reason="DigestMismatch",
                doing=self.doing,
                cause=f"{self._host} sent {size} bytes that hash to {digest}",
                remedy="if it stays: push the artifact again (publisher), or look for a proxy that rewrites bodies",
            )

    def _wrong_size(self, cause: str) -> IntegrityError:
        return IntegrityError(
            reason="SizeMismatch",
            doing=self.doing,
            cause=f"{self._host} sends another size: {cause}",
            remedy="if it stays: push the artifact again (publisher), or look for a proxy that rewrites bodies",
        )

    def _bad_range(self, response: Response) -> RegistryError:
        return RegistryError(
            reason="ServerFailure",
            doing=self.doing,
            cause=f"asked to go on where it broke off, {self._host} answered {response.status} with "
            f"Content-Range {response.header('content-range')[:80]!r}",
            remedy="it is begun anew",
        )


def _is_encoded(response: Response) -> bool:
    return response.header("content-encoding").strip().lower() in ("gzip", "x-gzip")


def _continues(response: Response, start: int, size: int) -> bool:
    """Whether this answers `Range: bytes=<start>-` of a blob of that size, so that its bytes may be appended."""
    match = _CONTENT_RANGE.fullmatch(response.header("content-range").strip())
    if response.status != 206 or match is None:
        return False
    return int(match[1]) == start and int(match[2]) == size - 1 and match[3] in (str(size), "*")
