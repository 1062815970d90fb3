"""The layers of a manifest, fetched side by side: each digest once, each byte checked.

Rules. (1) A digest is fetched once, however many layers share it; inline `data` and the cache come before the network.
(2) A blob that is not exactly as long as its descriptor says, or hashes to something else, is refused; the answer to a
`Range` is used only where it continues at the byte asked for. (3) What is under way is bounded: `concurrency` of the
registry times one small blob or one write buffer. (4) What was fetched before a failure is in the cache for the next
try.
"""

import asyncio
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from connector.errors import IntegrityError, LayerError, OciSyncError, RegistryError
from connector.http_client import HttpFailure, Response, gunzip
from connector.oci.answers import failure_of
from connector.oci.blob_cache import BlobCache
from connector.oci.digest import Digest, Hasher, algorithm_of, digest_of
from connector.oci.manifest import Descriptor
from connector.oci.reference import Reference
from connector.oci.registry import Registry
from connector.oci.spool import SMALL_BYTES, Blob, MemoryBudget, Spool, SpoolDirectory, spool_failed
from connector.oci.trust import origin_of

Progress = Callable[[int], None]

_MEMORY_BYTES = 32 << 20  # of small blobs, all pulls of a process together; half of the 64 MB that a pull may add
_MOST_BYTES = 1 << 30
_WRITE_BYTES = 1 << 20  # written at once, in a thread: so that a slow disk does not hold up the loop
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)


class BlobStore:
    """What all pulls of a process share: the memory budget, the spool's directory, the cache. Holds no blobs itself."""

    def __init__(
        self,
        directory: Path | None = None,
        cache_bytes: int = 0,
        memory_bytes: int = _MEMORY_BYTES,
    ) -> None:
        self.directory = None if directory is None else SpoolDirectory(directory / "spool")
        self.budget = MemoryBudget(memory_bytes)
        self.cache = BlobCache(directory / "cache", cache_bytes) if directory is not None and cache_bytes > 0 else None


class Fetched(Mapping[Digest, Blob]):
    """The blobs of one fetch by digest. They live until nobody holds them, or until `close`."""

    def __init__(self, blobs: Mapping[Digest, Blob], spool: Spool, downloaded: int) -> None:
        self._blobs = blobs
        self._spool = spool
        self.downloaded = downloaded

    def __repr__(self) -> str:
        return f"<Fetched {len(self._blobs)} blobs, {self.downloaded} of them from the registry>"

    def __getitem__(self, digest: Digest) -> Blob:
        return self._blobs[digest]

    def __iter__(self) -> Iterator[Digest]:
        return iter(self._blobs)

    def __len__(self) -> int:
        return len(self._blobs)

    def close(self) -> None:
        """Remove what is on disk now."""
        self._spool.close()


class Blobs:
    """Fetches the layers of manifests of one registry. `max_bytes` bounds what one manifest may ask for."""

    def __init__(self, registry: Registry, store: BlobStore | None = None, *, max_bytes: int = _MOST_BYTES) -> None:
        self._registry = registry
        self._store = store or BlobStore()
        self._max_bytes = max_bytes

    async def fetch(
        self, reference: Reference, layers: Sequence[Descriptor], progress: Progress | None = None
    ) -> Fetched:
        """The blob of each layer, whole and verified. `progress` gets the bytes as they come, negative on a restart.

        Raises RegistryError, CredentialsError, IntegrityError, LayerError (TooLarge, SpoolFailed); then nothing is kept
        but what the cache holds.
        """
        wanted: dict[Digest, tuple[int, Descriptor]] = {}
        for index, layer in enumerate(layers):
            wanted.setdefault(layer.digest, (index, layer))
        total = sum(layer.size_bytes for _, layer in wanted.values())
        if total > self._max_bytes:
            raise _too_much(reference, total, self._max_bytes)
        spool = Spool(self._store.budget, self._store.directory)
        try:
            return await self._fetch(reference, wanted, spool, progress or _ignore)
        except BaseException:
            spool.close()
            raise

    async def _fetch(
        self, reference: Reference, wanted: Mapping[Digest, tuple[int, Descriptor]], spool: Spool, progress: Progress
    ) -> Fetched:
        blobs: dict[Digest, Blob] = {}
        for _, layer in wanted.values():
            if layer.data is not None:
                blobs[layer.digest] = spool.keep(layer.digest, layer.data)
        cache = self._store.cache
        if cache is not None:
            unknown = [layer for _, layer in wanted.values() if layer.digest not in blobs]
            blobs |= await _load(cache, unknown, spool)
        progress(sum(blob.size_bytes for blob in blobs.values()))
        missing = [entry for digest, entry in wanted.items() if digest not in blobs]
        fetched: list[Blob] = []
        counted = self._registry.exchange.hosts.counting(reference.registry, progress)
        try:
            await self._fetch_all(reference, missing, spool, fetched, counted)
        finally:
            if cache is not None and fetched:
                await asyncio.shield(asyncio.to_thread(cache.store, fetched))
        blobs.update((blob.digest, blob) for blob in fetched)
        return Fetched(blobs, spool, len(fetched))

    async def _fetch_all(
        self,
        reference: Reference,
        missing: Sequence[tuple[int, Descriptor]],
        spool: Spool,
        fetched: list[Blob],
        progress: Progress,
    ) -> None:
        queue = iter(missing)

        async def work() -> None:
            for index, layer in queue:
                transfer = _Transfer(self._registry, reference, index, layer, spool, progress)
                fetched.append(await self._registry.exchange.attempts(transfer.attempt))

        workers = min(len(missing), self._registry.exchange.hosts.settings(reference.api_host).concurrency)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(work())
        except BaseExceptionGroup as failures:
            known = [error for error in failures.exceptions if isinstance(error, OciSyncError)]
            if known:
                raise known[0] from known[0].__cause__
            raise


class _Transfer:
    """One blob on its way. `attempt` may be called again: it goes on where the last one broke off."""

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
        self._progress = progress
        self._decode = False
        self._host = reference.api_host  # who sends the bytes: after a redirect, the storage
        self._path: Path | None = None
        self._hasher = Hasher(algorithm_of(layer.digest))

    @property
    def doing(self) -> str:
        """What an error says was being done."""
        layer = self._layer
        kind = layer.media_type[:120] or "no media type"
        return f"fetching layer {self._index} ({kind}, {layer.digest}, {layer.size_bytes} bytes) of {self._reference}"

    async def attempt(self) -> Blob:
        """The blob. Raises RegistryError, CredentialsError, IntegrityError, LayerError."""
        if self._layer.size_bytes <= SMALL_BYTES:
            return await self._small()
        return await self._large()

    async def _small(self) -> Blob:
        layer = self._layer
        async with self._registry.blob(self._reference, layer, self.doing) as response:
            self._host = origin_of(response.url).authority
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

    async def _large(self) -> Blob:
        layer = self._layer
        start = 0 if self._decode else self._hasher.size_bytes
        async with self._registry.blob(self._reference, layer, self.doing, start) as response:
            self._host = origin_of(response.url).authority
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
                data = chunk if decoder is None else self._decoded(decoder, chunk)
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

    def _decoded(self, decoder: "zlib._Decompress", chunk: bytes) -> bytes:
        room = self._layer.size_bytes - self._hasher.size_bytes + 1
        try:
            return decoder.decompress(chunk, room)
        except zlib.error:
            raise self._wrong_size("its Content-Encoding is gzip and its bytes are not") from None

    def _write(self, path: Path, data: bytearray) -> None:
        try:
            with path.open("ab") as file:
                file.write(data)
        except OSError as error:
            self._hasher = Hasher(algorithm_of(self._layer.digest))
            self._path = None
            raise spool_failed(path.parent, error) from error

    def _restart(self) -> None:
        self._progress(-self._hasher.size_bytes)
        self._hasher = Hasher(algorithm_of(self._layer.digest))
        if self._path is not None:
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
async def _load(cache: BlobCache, layers: Sequence[Descriptor], spool: Spool) -> dict[Digest, Blob]:
    """Those of the blobs that the cache holds.

    Nobody can stop its thread: when the tick is cancelled meanwhile, what the thread still puts into the spool is given
    back when it ends.
    """
    loading = asyncio.ensure_future(asyncio.to_thread(cache.load, layers, spool))
    try:
        return await asyncio.shield(loading)
    except asyncio.CancelledError:
        loading.add_done_callback(lambda _: spool.close())
        raise




def _continues(response: Response, start: int, size: int) -> bool:
    """Whether this answers `Range: bytes=<start>-` of a blob of that size, so that its bytes may be appended."""
    match = _CONTENT_RANGE.fullmatch(response.header("content-range").strip())
    if response.status != 206 or match is None:
        return False
    return int(match[1]) == start and int(match[2]) == size - 1 and match[3] in (str(size), "*")


def _too_much(reference: Reference, total: int, most: int) -> LayerError:
    return LayerError(
        reason="TooLarge",
        doing=f"fetching the layers of {reference}",
        cause=f"they have {total} bytes together, and at most {most} are fetched",
        remedy="raise limits.max_total_size (operator), or push less in one artifact (publisher)",
    )


def _ignore(_count: int) -> None:
    pass
