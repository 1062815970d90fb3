"""`oci-sync run`: the worker, until SIGTERM or SIGINT, or with `--once` for one tick of every source."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from connector.cli import ExitCode
from connector.cli.half import Half, without_misshapen
from connector.cli.progress import PullProgress
from connector.config.flow import Flow, with_sinks
from connector.config.flow_file import LoadedFlows, load_flows
from connector.config.worker_file import Worker as WorkerFile
from connector.config.worker_file import load_worker
from connector.errors import OciSyncError, OutputError
from connector.kafka.groups import group_members
from connector.kafka.topics import Topic
from connector.source.outcome import silent
from connector.source.worker import Worker
from connector.status import SourceId
from connector.telemetry import configure_logging
from connector.wiring.faces import open_faces, show_flows
from connector.wiring.parts import Parts, open_parts
from connector.wiring.source_half import build_source_worker, build_sources, topic_specs

if TYPE_CHECKING:
    from connector.sink.pipeline import Pipeline

_LOG = logging.getLogger(__name__)
T = TypeVar("T")

_LONGEST_BACKOFF_SECONDS = 30.0
_ONCE_SECONDS = 120.0


class LogFormat(StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def run(
    flows: Annotated[list[Path], typer.Argument(metavar="FLOW…", help="Flow files, or directories of them.")],
    worker_file: Annotated[
        Path | None, typer.Option("-c", "--worker", help="worker.yaml; without it Kafka is at localhost:9092.")
    ] = None,
    only: Annotated[Half | None, typer.Option(help="Run one half of the flows.")] = None,
    once: Annotated[bool, typer.Option("--once", help="One tick of every source, then stop; 1 if any failed.")] = False,
    join: Annotated[bool, typer.Option("--join", help="With --once: beside live workers of the group.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Do not start if any flow file is wrong.")] = False,
    log_format: Annotated[LogFormat, typer.Option(help="Log lines on standard error.")] = LogFormat.TEXT,
    log_level: Annotated[LogLevel, typer.Option(case_sensitive=False, help="How much is logged.")] = LogLevel.INFO,
) -> None:
    """Run the worker: registries to Kafka, and from Kafka to stores."""
    configure_logging(log_format.value, log_level.value)
    half: Literal["source", "sink"] | None = only.value if only is not None else None
    worker = load_worker(worker_file)
    loaded = load_flows(flows, half)
    if half != "source":
        loaded = without_misshapen(loaded)
    for path, error in loaded.refused:
        _LOG.error("%s", error, extra={"flow_file": str(path), "reason": error.reason})
    if loaded.refused and (strict or not loaded.flows):
        raise typer.Exit(ExitCode.FAILED)
    try:
        failed = asyncio.run(_run(worker, loaded, half, once=once, join=join))
    except BaseExceptionGroup as group:
        raise _told(group) from group
    if once and (failed or loaded.refused):
        raise typer.Exit(ExitCode.FAILED)


def _told(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of the tree that ended both halves; the whole group where there is a bug among them."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    return leaves[0] if all(isinstance(leaf, OciSyncError) for leaf in leaves) else group


async def _run(
    worker: WorkerFile, loaded: LoadedFlows, only: Literal["source", "sink"] | None, *, once: bool, join: bool
) -> bool:
    """Whether anything failed."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_parts(worker) as parts, AsyncExitStack() as faces:
        show_flows(parts, loaded)
        source_worker: Worker | None = None

        def tick_now(source: SourceId) -> bool:
            return source_worker is not None and source_worker.trigger(source)

        # Before anything is asked of Kafka: a worker that waits for it is alive, and says why it is not ready.
        if worker.http.address is not None:
            await faces.enter_async_context(open_faces(parts, tick_now))
        if once and not join and only != "sink":
            await _refuse_a_group_in_use(parts)
        if only != "sink":
            source_worker = await _source_worker(parts, loaded.flows, stop, once=once)
        sinks = with_sinks(loaded.flows) if only != "source" else ()
        if only == "sink" and not sinks:
            _LOG.warning("no flow has tasks behind oci_sync: there is nothing to do for the sink half")
            return False
        if once:
            return await _once(parts, source_worker, sinks, stop)
        return await _until_stopped(parts, source_worker, sinks, stop)


async def _once(parts: Parts, source_worker: Worker | None, sinks: Sequence[Flow], stop: asyncio.Event) -> bool:
    """One tick of every source; then what the topics hold is applied. Whether anything failed."""
    failed = bool(await source_worker.run(stop)) if source_worker is not None else False
    for flow in sinks:
        if not stop.is_set():
            try:
                async with _pipeline(parts, flow) as pipeline:
                    failed |= await pipeline.run_once(_ONCE_SECONDS)
            except OutputError as error:  # of this flow; the next one's topic may well be there
                _LOG.error("%s", error, extra={"flow": flow.name, "reason": error.reason})
                failed = True
    return failed


async def _until_stopped(
    parts: Parts, source_worker: Worker | None, sinks: Sequence[Flow], stop: asyncio.Event
) -> bool:
    """Both halves until the signal. A half that ends by an error takes the other with it, cleanly."""
    async with AsyncExitStack() as feeds, asyncio.TaskGroup() as group:
        for flow in sinks:
            pipeline = await feeds.enter_async_context(_pipeline(parts, flow))
            group.create_task(pipeline.run(stop), name=f"sink-{flow.name}")
        if source_worker is not None:
            try:
                await source_worker.run(stop)
            finally:
                stop.set()
    return False


@asynccontextmanager
async def _pipeline(parts: Parts, flow: Flow) -> "AsyncIterator[Pipeline]":
    """The sink half of one flow, a member of its group. Only who runs one waits 20 ms for its import."""
    from connector.wiring.sink_half import build_feed, build_pipeline

    async with build_feed(parts, flow) as feed:
        yield build_pipeline(parts, flow, feed)


async def _source_worker(parts: Parts, flows: Sequence[Flow], stop: asyncio.Event, *, once: bool) -> Worker | None:
    """The source half on topics that fit; None when stopped before Kafka answered."""
    specs = topic_specs(parts.worker, flows)

    async def ensure() -> Mapping[str, Topic]:
        try:
            return await parts.topics.ensure(specs, parts.worker.topics.manage)
        except OutputError as error:
            if error.reason == "KafkaUnreachable":
                parts.status.kafka_failed(datetime.now(UTC), error)
            raise

    topics = await _patiently(ensure, stop, once=once)
    if topics is None:
        return None
    # A bar and log lines on one terminal fight for the last line; with --once there are few of those.
    progress = PullProgress().pulling if once else silent
    return build_source_worker(parts, build_sources(parts, flows, topics, progress), once=once)


async def _patiently(attempt: Callable[[], Awaitable[T]], stop: asyncio.Event, *, once: bool) -> T | None:
    """The result, tried again with growing pauses while the failure is one that may pass; None when stopped before."""
    wait = 1.0
    while True:
        try:
            return await attempt()
        except OutputError as error:
            if once or not error.transient:
                raise
            _LOG.error("%s", error, extra={"reason": error.reason, "next_try_seconds": wait})
        try:
            async with asyncio.timeout(wait):
                await stop.wait()
            return None
        except TimeoutError:
            wait = min(wait * 2, _LONGEST_BACKOFF_SECONDS)


async def _refuse_a_group_in_use(parts: Parts) -> None:
    worker = parts.worker
    members = await group_members(parts.topics.admin, worker.group, but_instance=worker.group_instance_id)
    if members:
        raise OutputError(
            reason="GroupInUse",
            doing=f"starting a single run in consumer group {parts.worker.group}",
            cause=f"it has live members: {', '.join(members[:5])}",
            remedy="stop them, or give --join to run beside them; a worker that was killed counts until its session "
            "times out (operator)",
        )
