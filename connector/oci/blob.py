"""The layers of a manifest, fetched side by side: each digest once, each byte checked.

Rules. (1) A digest is fetched once, however many layers share it; inline `data` and the cache come before the network.
(2) One blob on its way is a Transfer (`transfer.py`), which takes nothing that was not promised. (3) What is under way
is bounded: of blobs up to 64 KB as many as the registry's host gets at once (`pace.py`), of larger ones 8, or what the
user's `concurrency` says, times one small blob or one write buffer. (4) What was fetched before a failure is in the
cache for the next try.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from connector.errors import LayerError, OciSyncError
from connector.oci.blob_cache import BlobCache
from connector.oci.digest import Digest
from connector.oci.manifest import Descriptor
from connector.oci.pace import MOST, START
from connector.oci.reference import Reference
from connector.oci.registry import Registry
from connector.oci.spool import Blob, MemoryBudget, Spool, SpoolDirectory
from connector.oci.transfer import Progress, Transfer

# Of small blobs, all pulls of a process together: 1,000 of 4 KB twice. A pull may add 64 MB, of which
# a record of 20 MB, its file and its copy in the producer's queue take 50.
_MEMORY_BYTES = 8 << 20
_MOST_BYTES = 1 << 30
_MANY_BYTES = 64 << 10  # up to here a blob takes little memory and line, and the round trip or the host is what costs


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
        try:
            await self._fetch_all(reference, missing, spool, fetched, progress)
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
        named = self._registry.exchange.hosts.settings(reference.api_host).concurrency
        few = asyncio.Semaphore(named or START)

        async def work() -> None:
            for index, layer in queue:
                transfer = Transfer(self._registry, reference, index, layer, spool, progress)
                async with few if layer.size_bytes > _MANY_BYTES else nullcontext():
                    fetched.append(await self._registry.exchange.by_digest(reference, transfer.attempt))

        # Who has no slot of the host yet holds nothing.
        workers = min(len(missing), named or MOST)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(work())
        except BaseExceptionGroup as failures:
            known = [error for error in failures.exceptions if isinstance(error, OciSyncError)]
            if known:
                raise known[0] from known[0].__cause__
            raise


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


def _too_much(reference: Reference, total: int, most: int) -> LayerError:
    return LayerError(
        reason="TooLarge",
        doing=f"fetching the layers of {reference}",
        cause=f"they have {total} bytes together, and at most {most} are fetched",
        remedy="raise limits.max_total_size (operator), or push less in one artifact (publisher)",
    )


def _ignore(_count: int) -> None:
    pass
