"""`oci-sync pull REF`: the files of an artifact, listed or written to a directory; without Kafka."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from msgspec import Struct

from connector.cli.directory import write_files
from connector.cli.output import OutputFormat, show, written
from connector.cli.progress import PullProgress
from connector.cli.registry_client import open_registry
from connector.config.worker_file import Worker, load_worker, spool_directory
from connector.layers.extract import ExtractOptions, File, extract, needed_layers
from connector.layers.limits import max_decompressed_size
from connector.oci.blob import Blobs, BlobStore, Fetched
from connector.oci.platform import Platform, parse_platform
from connector.oci.reference import Reference, parse_reference
from connector.oci.registry import Pulled
from connector.oci.retry import RetryPolicy
from connector.oci.spool import spool_failed


def pull(
    artifact: Annotated[str, typer.Argument(metavar="REF", help="As in a flow: registry.example.com/org/app:prod.")],
    directory: Annotated[
        Path | None, typer.Option("-o", "--directory", help="Write the files here; without it they are listed.")
    ] = None,
    credentials: Annotated[
        Path | None, typer.Option("--credentials", help="Credentials file, as a task's credentials_path.")
    ] = None,
    platform: Annotated[
        str | None, typer.Option("--platform", help="Which image of an index: linux/amd64, linux/arm/v7.")
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option("--include", help="Only these paths (a pattern; repeat).")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Not these paths (a pattern; repeat).")] = None,
    worker_file: Annotated[
        Path | None, typer.Option("-c", "--worker", help="worker.yaml, for registries, limits and the cache.")
    ] = None,
    output: Annotated[OutputFormat, typer.Option("--output", help="How the files are listed.")] = OutputFormat.TABLE,
) -> None:
    """Fetch an artifact with every check a tick makes, and show or write its files."""
    reference = parse_reference(artifact)
    wish = parse_platform(platform) if platform else None
    worker = load_worker(worker_file)
    limits = worker.limits
    options = ExtractOptions(
        max_file_size=limits.max_file_size,
        max_total_size=limits.max_total_size,
        max_entries=limits.max_entries,
        binary="base64",  # files are written as they are, so there is nothing to refuse
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        allow_empty=True,
    )
    if reference.is_default_tag:
        sys.stderr.write(f"{artifact} names no tag; 'latest' is taken\n")
    asyncio.run(_pull(_Order(reference, wish, options, worker, credentials, directory), output))


class _Order(Struct, frozen=True):
    reference: Reference
    platform: Platform | None
    options: ExtractOptions
    worker: Worker
    credentials: Path | None
    directory: Path | None


async def _pull(order: _Order, output: OutputFormat) -> None:
    started = time.monotonic()
    retry = order.worker.retry
    policy = RetryPolicy(retry.max_attempts, retry.initial_backoff)
    spool = spool_directory(order.worker)
    async with open_registry(order.worker, order.credentials, policy) as registry:
        head = await registry.head(order.reference)
        pulled = await registry.manifest(order.reference, head.digest, order.platform)
        named = order.reference.qualified
        layers = needed_layers(pulled.manifest.layers, order.options, named)
        store = BlobStore(spool, order.worker.spool.cache_size)
        most = max_decompressed_size(order.options.max_total_size)
        total = sum({layer.digest: layer.size_bytes for layer in layers}.values())
        with PullProgress().pulling("fetching", total) as progress:
            blobs = await Blobs(registry, store, max_bytes=most).fetch(order.reference, layers, progress)
    with _temporary_file() as extracted:
        files = await asyncio.to_thread(extract, pulled.manifest.layers, blobs, order.options, extracted, named)
        if order.directory is not None:
            await asyncio.to_thread(write_files, order.directory, [(file.path, file.content.read) for file in files])
    _report(order, pulled, files, blobs, time.monotonic() - started, output)


@contextmanager
def _temporary_file() -> Iterator[BinaryIO]:
    """A file for what is extracted, gone at the end. Raises LayerError SpoolFailed, also where it cannot be flushed."""
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as error:
        raise spool_failed(Path(tempfile.gettempdir()), error) from error


def _report(
    order: _Order, pulled: Pulled, files: Sequence[File], blobs: Fetched, seconds: float, output: OutputFormat
) -> None:
    rows: list[dict[str, Any]] = [
        {
            "path": file.path,
            "bytes": file.content.size_bytes,
            "media_type": file.media_type,
            "layer_digest": file.layer_digest,
        }
        for file in files
    ]
    size = sum(row["bytes"] for row in rows)
    if output is not OutputFormat.TABLE:
        document = {
            "artifact": order.reference.text,
            "digest": pulled.artifact_digest,
            "manifest_digest": pulled.manifest.digest,
            "media_type": pulled.media_type,
            "directory": None if order.directory is None else str(order.directory),
            "blobs_fetched": blobs.downloaded,
            "blobs_cached": len(blobs) - blobs.downloaded,
            "bytes": size,
            "seconds": round(seconds, 3),
            "files": rows,
        }
        sys.stdout.write(written(document, output))
        return
    if order.directory is None:
        show(rows, output, "no files")
    place = "" if order.directory is None else f" to {order.directory}"
    sys.stderr.write(
        f"pulled {order.reference} at {pulled.artifact_digest}{place}: {len(files)} files, {size} bytes; "
        f"{blobs.downloaded} blobs fetched, {len(blobs) - blobs.downloaded} at hand; {seconds:.2f} s\n"
    )
