"""`oci_sync`: one look at a registry, and where the digest moved, one pull committed to Kafka.

Rules (contract 3 of the design). (1) An unchanged tick is one HEAD and one log line. (2) Everything after the HEAD goes
by its digest, so a tag that moves in between cannot mix two releases. (3) Download, verify and extract first; the
transaction comes last and waits for nothing but Kafka. (4) The deadline `timeout` covers what waits for the registry; a
commit has a bound of its own and is never cut short by it.
"""

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Protocol

from msgspec import Struct
from pydantic import Field

from connector import allocator, faults
from connector.config.task import Duration, LocalPath, RetryFields, TaskFields, checked_by
from connector.config.variables import has_variable
from connector.errors import LayerError, TickTimeout
from connector.kafka.record import Record
from connector.kafka.transaction import Committed
from connector.layers.extract import extract, needed_layers
from connector.oci.blob import Blobs
from connector.oci.manifest import Descriptor
from connector.oci.platform import parse_platform
from connector.oci.reference import parse_reference
from connector.oci.registry import Pulled, Registry
from connector.records.encoder import Encoder, Encoding, FormatName, HeaderStyle
from connector.records.file_key import KeyFormat
from connector.records.file_record import Change, PullFacts
from connector.records.source_offset import SourceOffset, offset_record, short_hash
from connector.source.changes import FileChange, compare
from connector.source.outcome import Phases, Planned, Progress, Pull, Unchanged, silent
from connector.source.oversize import Fitted, fit
from connector.source.release import Release
from connector.source.source import Oversize, Partitioner, Source

_LOG = logging.getLogger("connector.source.oci_sync")


def _reference_or_variable(text: str) -> None:
    """A reference; or one whose variable is not set, which `--only sink` may have."""
    if not has_variable(text):
        parse_reference(text)


class Fields(TaskFields):
    """Follows one reference of a registry; each new digest becomes one transaction on Kafka."""

    for_both_halves: ClassVar[frozenset[str]] = frozenset({"topic", "oversize", "partitioner"})

    artifact: Annotated[str, checked_by(_reference_or_variable)] = Field(
        description="Full OCI reference: `registry.example.com/org/flows:prod` or `…@sha256:…`. Part of every key.",
    )
    credentials_path: LocalPath | None = Field(
        None, description="JSON credentials file, read anew when it changes. Anonymous if left out."
    )
    force_pull: bool = Field(
        False,
        description="Pull and emit at every tick, whatever the digest. Only to seed a downstream cache again.",
    )
    platform: Annotated[str, checked_by(parse_platform)] | None = Field(
        None, description="Which manifest of an index to take, as `linux/amd64`; needed where it lists several."
    )
    include: tuple[str, ...] = Field((), description="Only paths that match one of these globs; empty: all.")
    exclude: tuple[str, ...] = Field((), description="No paths that match one of these globs.")
    include_media_types: tuple[str, ...] = Field((), description="Only layers of these media types; empty: all.")
    exclude_media_types: tuple[str, ...] = Field((), description="No layers of these media types.")
    binary: Literal["error", "base64", "skip"] = Field(
        "error", description="What to do with a file that is not UTF-8: refuse the artifact, send base64, leave it out."
    )
    format: FormatName = Field(
        "json",
        description="How a file becomes a record's value: `json`; `avro` (needs `schema_registry` in worker.yaml); "
        "`raw` for the file's own bytes; `json_schema` for Kafka Connect sinks that want a schema without a registry.",
    )
    key_format: KeyFormat = Field(
        "string",
        description="How artifact and path become a record's key: `string` for `<artifact>#<path>`; `json`; `avro`. "
        "Another one makes other keys, so give it a topic of its own.",
    )
    headers: HeaderStyle = Field(
        "oci", description="`cloudevents` adds `ce_*` headers: every record is a CloudEvent in binary mode."
    )
    partitioner: Partitioner = Field(
        "source",
        description="Which hash chooses the partition: the artifact's (one source, one partition, in order) or the "
        "`key`'s, as Kafka's own producer would.",
    )
    commit_record: bool = Field(
        False, description="End each pull with a record of its own, key `<artifact>#`, that says what the pull was."
    )
    oversize: Oversize = Field(
        "error",
        description="What to do with a file whose record is larger than the topic's max.message.bytes: refuse the "
        "artifact, leave the file out, or send the record without its content.",
    )
    topic: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]{1,249}$", description="Topic of the records; default `oci.<flow name>`."
    )
    allow_empty: bool = Field(False, description="Accept an artifact without files, which removes every path.")
    timeout: Duration = Field(
        timedelta(minutes=10), gt=timedelta(0), description="Deadline for everything a tick asks of the registry."
    )
    retry: RetryFields = Field(RetryFields(), description="Attempts at transient failures within one tick.")


class Output(Protocol):
    """Where a tick puts its records: the partition's owner."""

    async def prepare(self) -> None:
        """Make a producer ready while the blobs download."""
        ...

    async def commit(self, records: Iterable[Record], offset: Record) -> Committed:
        """All of it or nothing. Raises OutputError."""
        ...


class OciSync:
    """Ticks of one source. Holds no state between ticks: what came before is handed in."""

    def __init__(
        self,
        source: Source,
        registry: Registry,
        blobs: Blobs,
        encoding: Encoding,
        spool: Path,
        new_pull_id: Callable[[], str],
        now_ms: Callable[[], int],
        new_traceparent: Callable[[], str],
        record_limit: Callable[[], Awaitable[int | None]],
        progress: Progress = silent,
    ) -> None:
        self.source = source
        self._registry = registry
        self._blobs = blobs
        self._encoding = encoding
        self._spool = spool
        self._new_pull_id = new_pull_id
        self._now_ms = now_ms
        self._new_traceparent = new_traceparent
        self._record_limit = record_limit
        self._progress = progress

    def __repr__(self) -> str:
        return f"<OciSync {self.source.flow}/{self.source.name} {self.source.artifact}>"

    async def tick(
        self, previous: SourceOffset | None, known_paths: Mapping[str, str], output: Output, *, force: bool = False
    ) -> Unchanged | Pull:
        """One look; with `force`, a pull whatever the digest.

        `known_paths` are the paths readers may have, to short hashes: the offset's, or those recovered.

        Raises every class of the tree but ConfigError and SinkError; the offset then stands where it stood.
        """
        source, clock = self.source, Phases()
        try:
            async with asyncio.timeout(source.timeout.total_seconds()):
                head = await self._registry.head(source.reference)
                clock.end("resolve")
                faults.passing("resolved")
                if not force and self._is_unchanged(previous, head):
                    _LOG.info(
                        "OCI manifest digest unchanged since last pull, skipping layer fetch",
                        extra={"artifact": source.artifact, "digest": head.digest},
                    )
                    return Unchanged(head.digest)
                encoder = await self._encoding.prepare()
                limit = None if source.oversize == "error" else await self._record_limit()
                pulled, changes = await self._pull_beside(output.prepare(), head, known_paths, clock)
        except TimeoutError as error:
            raise self._too_slow() from error
        try:
            fitted = await asyncio.to_thread(fit, source, changes.entries, encoder, limit)
            return await self._commit(pulled, previous, fitted, encoder, output, clock)
        finally:
            changes.close()
            allocator.give_back()

    async def plan(self, previous: SourceOffset | None, known_paths: Mapping[str, str]) -> Unchanged | Planned:
        """What a tick would do now, by the same steps up to the commit. Raises what a tick raises."""
        try:
            async with asyncio.timeout(self.source.timeout.total_seconds()):
                head = await self._registry.head(self.source.reference)
                if self._is_unchanged(previous, head):
                    return Unchanged(head.digest)
                limit = None if self.source.oversize == "error" else await self._record_limit()
                pulled, changes = await self._pull(head, known_paths, Phases())
        except TimeoutError as error:
            raise self._too_slow() from error
        with closing(changes):
            fitted = await asyncio.to_thread(fit, self.source, changes.entries, self._encoding.measuring(), limit)
            sizes = {entry.path: entry.file.content.size_bytes for entry in fitted.changes if entry.file is not None}
            return Planned(pulled.artifact_digest, {entry.path: entry.change for entry in fitted.changes}, sizes)

    async def _pull_beside(
        self, prepare: Coroutine[None, None, None], head: Descriptor, known_paths: Mapping[str, str], clock: Phases
    ) -> tuple[Pulled, "_Extracted"]:
        """Pull while the producer is made ready; what was pulled is let go when that fails."""
        preparing = asyncio.create_task(prepare)
        preparing.add_done_callback(lambda task: task.cancelled() or task.exception())  # heard, even if nobody waits
        try:
            pulled, changes = await self._pull(head, known_paths, clock)
        except BaseException:
            preparing.cancel()
            raise
        try:
            await preparing
        except BaseException:
            changes.close()
            raise
        return pulled, changes

    def _is_unchanged(self, previous: SourceOffset | None, head: Descriptor) -> bool:
        return (
            previous is not None
            and previous.digest == head.digest
            and previous.settings == self.source.settings
            and not self.source.force_pull
        )

    async def _pull(
        self, head: Descriptor, known_paths: Mapping[str, str], clock: Phases
    ) -> tuple[Pulled, "_Extracted"]:
        source = self.source
        pulled = await self._registry.manifest(source.reference, head.digest, source.platform)
        layers = pulled.manifest.layers
        needed = needed_layers(layers, source.options, source.reference.qualified)
        total = sum({layer.digest: layer.size_bytes for layer in needed}.values())
        with self._progress(source.artifact, total) as advance:
            blobs = await self._blobs.fetch(source.reference, needed, advance)
        clock.end("fetch")
        faults.passing("fetched")
        with ExitStack() as held:
            held.callback(blobs.close)
            try:
                spool = held.enter_context(tempfile.TemporaryFile(dir=self._spool))
                files = await asyncio.to_thread(
                    extract, layers, blobs, source.options, spool, source.reference.qualified
                )
            except OSError as error:
                raise self._spool_failed(error) from error
            clock.end("extract")
            faults.passing("extracted")
            # What is extracted reads from blobs and spool until it is committed.
            return pulled, _Extracted(compare(known_paths, files), held.pop_all().close)

    async def _commit(
        self,
        pulled: Pulled,
        previous: SourceOffset | None,
        fitted: Fitted,
        encoder: Encoder,
        output: Output,
        clock: Phases,
    ) -> Pull:
        source, changes = self.source, fitted.changes
        counts = {kind: sum(1 for entry in changes if entry.change is kind) for kind in Change}
        files = len(changes) - counts[Change.REMOVED]
        facts = PullFacts(
            pull_id=self._new_pull_id(),
            artifact=source.artifact,
            artifact_digest=pulled.artifact_digest,
            manifest_digest=pulled.manifest.digest if pulled.from_index else None,
            previous_digest=previous.digest if previous else None,
            files=files,
            deletes=counts[Change.REMOVED],
        )
        offset = SourceOffset(
            artifact=source.artifact,
            digest=pulled.artifact_digest,
            manifest_digest=pulled.manifest.digest,
            media_type=pulled.media_type,
            pull_id=facts.pull_id,
            previous_digest=facts.previous_digest,
            files=facts.files,
            deletes=facts.deletes,
            bytes=sum(entry.file.content.size_bytes for entry in changes if entry.file is not None),
            committed_at=self._now_ms(),
            worker=source.worker,
            settings=source.settings,
            paths={entry.path: short_hash(entry.file.content_hash) for entry in changes if entry.file is not None},
        )
        release = Release(
            source, facts, changes, encoder, self._new_traceparent(), offset.committed_at, fitted.by_reference
        )
        own = offset_record(source.offsets_topic, source.offsets_partitions, source.flow, offset)
        committed = await output.commit(release, own)
        clock.end("commit")
        _LOG.info(
            "committed %d files (%d added, %d modified, %d unchanged) and %d deletes, %d bytes, in %.2f s",
            files, counts[Change.ADDED], counts[Change.MODIFIED], counts[Change.UNCHANGED], counts[Change.REMOVED],
            offset.bytes, clock.total(),
            extra={
                "artifact": source.artifact,
                "digest": offset.digest,
                "pull_id": offset.pull_id,
                "flow": source.flow,
                "source": source.name,
            },
        )  # fmt: skip
        return Pull(offset, counts, committed, clock.seconds)

    def _too_slow(self) -> TickTimeout:
        source = self.source
        return TickTimeout(
            reason="DeadlineExceeded",
            doing=f"pulling {source.artifact}",
            cause=f"the registry did not deliver within the task's timeout of {source.timeout.total_seconds():.0f} s",
            remedy=f"raise 'timeout' of task {source.name} (operator), or find out why the registry is slow",
        )

    def _spool_failed(self, error: OSError) -> LayerError:
        return LayerError(
            reason="SpoolFailed",
            doing=f"extracting {self.source.artifact} in {self._spool}",
            cause=error.strerror or type(error).__name__,
            remedy="make room or set spool.directory to a place that can be written (operator)",
        )


class _Extracted(Struct, frozen=True):
    entries: Sequence[FileChange]
    close: Callable[[], None]
