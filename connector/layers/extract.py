"""The layers of one manifest as files: raw, compressed, or archives merged into one view. Pure over spooled bytes.

Rules. (1) `layer_kind.py` says what a layer is, `overlay.py` what of the archives can be seen, `limits.py` what may
be spent. (2) Only what is seen and wanted is judged: a binary or a giant that a later layer hides, or `exclude` names,
is no error. (3) Two files with one canonical path are an error: two titles, a title and a path of an archive, or two
spellings of one path within an archive ('a' and './a'). A name that comes twice in one archive is tar's own way to
replace a file: the last one holds. (4) No file at all is an error unless `allow_empty`, so that one bad push, or one
bad pattern, cannot wipe every reader. (5) Files come in the order of manifest and archive.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import BinaryIO, Literal

from msgspec import Struct

from connector.errors import LayerError
from connector.layers.archives import Archives
from connector.layers.compression import decompress
from connector.layers.content import Content, Examined, Spool, SupportsOpen, examine_blob
from connector.layers.layer import Layer, quoted
from connector.layers.layer_kind import HEAD_BYTES, Decision, LayerKind, decide, decide_without_bytes
from connector.layers.limits import Budget, canonical_path, limit_file, max_decompressed_size, refuse_file_size
from connector.layers.path_filter import MediaTypeFilter, PathFilter
from connector.oci.digest import Digest
from connector.oci.manifest import Descriptor

logger = logging.getLogger(__name__)

MB = 1000 * 1000


class ExtractOptions(Struct, frozen=True):
    """What the task and the worker say about extraction; sizes in bytes.

    `include` and `exclude` are patterns of paths (`path_filter.py`). `binary` is what happens to content that is not
    UTF-8: an error, a file like others (the format writes it as base64), or left out. `max_entries` bounds files and
    directories of all archives together, and so the memory they take: 1.2 KB each, measured.
    """

    max_file_size: int = 10 * MB
    max_total_size: int = 100 * MB
    max_entries: int = 30_000
    binary: Literal["error", "base64", "skip"] = "error"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    include_media_types: tuple[str, ...] = ()
    exclude_media_types: tuple[str, ...] = ()
    allow_empty: bool = False


class File(Struct, frozen=True):
    """One path of an artifact with its content.

    `content_hash` is the sha256 of the content in hex; `layer_digest` and `media_type` are the layer's, as the
    manifest writes them; `is_text` says that the content is UTF-8.
    """

    path: str
    content: Content
    content_hash: str
    layer_digest: str
    media_type: str
    is_text: bool = True


class _Found(Struct, frozen=True):
    """A file before it is judged; `layer` is the one that put the path there."""

    path: str
    layer: Layer
    examined: Examined


def needed_layers(layers: Sequence[Descriptor], options: ExtractOptions, artifact: str = "") -> tuple[Descriptor, ...]:
    """The layers whose blobs `extract` opens; the rest need not be fetched. Errors name the artifact.

    Left out are media types that are not wanted, empty descriptors, and single files whose path is not wanted. Raises
    LayerError, before anything is fetched, for what the manifest alone shows: unsafe titles, and sizes over a limit.
    """
    sizes = _SizesBefore(options)
    wants_path = PathFilter(options.include, options.exclude).wants
    needed: list[Descriptor] = []
    for layer in _wanted_layers(layers, options, artifact):
        decision = decide_without_bytes(layer)
        if decision is not None:
            if decision.kind is LayerKind.NOTHING or not wants_path(_file_path(layer)):
                continue
            sizes.add_file(layer)
        sizes.add_blob(layer)
        needed.append(layer.descriptor)
    return tuple(needed)


def extract(
    layers: Sequence[Descriptor],
    blobs: Mapping[Digest, SupportsOpen],
    options: ExtractOptions,
    spool: BinaryIO,
    artifact: str = "",
) -> tuple[File, ...]:
    """All files of the layers, canonical paths unique, in the order of manifest and archive.

    `blobs` are by digest and were verified when they were fetched. `spool` is appended to and must stay open as long
    as contents are read. Raises LayerError with the artifact and the layer's index, type and digest; nothing is
    returned in part.
    """
    return _Extraction(blobs, options, spool, artifact).run(_wanted_layers(layers, options, artifact))


def _wanted_layers(layers: Sequence[Descriptor], options: ExtractOptions, artifact: str) -> list[Layer]:
    wants = MediaTypeFilter(options.include_media_types, options.exclude_media_types).wants
    numbered = (Layer(index, descriptor, artifact) for index, descriptor in enumerate(layers))
    return [layer for layer in numbered if wants(layer.media_type)]


class _SizesBefore:
    """Sizes that the manifest tells; the fetching side checks that they are true."""

    def __init__(self, options: ExtractOptions) -> None:
        self._options = options
        self._file_bytes = 0
        self._blob_bytes = 0

    def add_file(self, layer: Layer) -> None:
        """Count a layer that is one file as it is."""
        size_bytes = layer.descriptor.size_bytes
        if size_bytes > self._options.max_file_size:
            raise refuse_file_size(layer, size_bytes, self._options.max_file_size)
        self._file_bytes += size_bytes
        if self._file_bytes > self._options.max_total_size:
            raise _total_too_large(layer, self._file_bytes, self._options)

    def add_blob(self, layer: Layer) -> None:
        """Count any layer's blob; what is larger than all that may come out of it is not worth fetching."""
        self._blob_bytes += layer.descriptor.size_bytes
        most = max_decompressed_size(self._options.max_total_size)
        if self._blob_bytes > most:
            raise layer.error(
                "TooLarge",
                f"up to here the blobs have {self._blob_bytes} bytes; the limit is {most}, "
                f"for max_total_size {self._options.max_total_size}",
                "publish less (publisher), or raise limits.max_total_size (operator)",
            )


class _Extraction:
    """The state of one call of `extract`."""

    def __init__(
        self, blobs: Mapping[Digest, SupportsOpen], options: ExtractOptions, spool: BinaryIO, artifact: str
    ) -> None:
        self._artifact = artifact
        self._blobs = blobs
        self._options = options
        self._spool = Spool(spool)
        self._budget = Budget(options.max_total_size, options.max_entries)
        self._filter = PathFilter(options.include, options.exclude)
        self._archives = Archives(self._spool, self._budget, self._filter, options.max_file_size)
        self._singles: list[_Found] = []
        self._sizes = _SizesBefore(options)

    def run(self, layers: Sequence[Layer]) -> tuple[File, ...]:
        for layer in layers:
            self._read(layer)
        found = [*self._singles, *self._found_in_archives()]
        found.sort(key=lambda file: file.layer.index)  # stable, so archive order stays
        _refuse_duplicates(found)
        files = _judge_content(found, self._options)
        if not files and not self._options.allow_empty:
            raise _empty(len(layers), self._options, self._artifact)
        return tuple(files)

    def _read(self, layer: Layer) -> None:
        decision = decide_without_bytes(layer) or decide(layer, self._head(layer))
        if decision.warning is not None:
            _warn(layer, decision.warning)
        match decision.kind:
            case LayerKind.NOTHING:
                return
            case LayerKind.ARCHIVE:
                self._archives.merge(layer, self._blobs[layer.descriptor.digest], decision.compression)
            case LayerKind.FILE | LayerKind.COMPRESSED_FILE:
                self._read_single(layer, decision)

    def _head(self, layer: Layer) -> bytes:
        try:
            with self._blobs[layer.descriptor.digest].open() as reader:
                return reader.read(HEAD_BYTES)
        except OSError as error:
            raise layer.unreadable(error) from error

    def _read_single(self, layer: Layer, decision: Decision) -> None:
        path = _file_path(layer)
        if not self._filter.wants(path):
            return
        blob = self._blobs[layer.descriptor.digest]
        if decision.kind is LayerKind.FILE:
            self._sizes.add_file(layer)
            self._singles.append(_Found(path, layer, examine_blob(layer, blob)))
            return
        try:
            with blob.open() as reader:
                pieces = decompress(layer, reader, decision.compression, self._budget)
                examined = self._spool.append(layer, limit_file(layer, pieces, self._options.max_file_size))
        except OSError as error:
            raise layer.unreadable(error) from error
        self._singles.append(_Found(path, layer, examined))

    def _found_in_archives(self) -> list[_Found]:
        placed = self._archives.visible(self._blobs)
        return [_Found(path, layer, examined) for path, layer, examined in placed]


def _judge_content(found: Sequence[_Found], options: ExtractOptions) -> list[File]:
    """The files as they go out, once text, total size and count are judged."""
    files: list[File] = []
    skipped: list[_Found] = []
    total_size = 0
    for one in found:
        not_text_at = one.examined.not_text_at
        if not_text_at is not None and options.binary == "error":
            raise _not_text(one, not_text_at)
        if not_text_at is not None and options.binary == "skip":
            skipped.append(one)
            continue
        total_size += one.examined.content.size_bytes
        if total_size > options.max_total_size:
            raise _total_too_large(one.layer, total_size, options)
        files.append(_file(one))
    if skipped:
        logger.warning(
            "left out %d files that are not UTF-8 (binary: skip), the first of them %s of %s",
            len(skipped),
            quoted(skipped[0].path),
            skipped[0].layer,
            extra={"skipped": len(skipped), "path": skipped[0].path},
        )
    return files


def _file(found: _Found) -> File:
    return File(
        path=found.path,
        content=found.examined.content,
        content_hash=found.examined.sha256,
        layer_digest=found.layer.descriptor.digest,
        media_type=found.layer.descriptor.media_type,
        is_text=found.examined.not_text_at is None,
    )


def _refuse_duplicates(found: Sequence[_Found]) -> None:
    """Paths of titles and of the merged archives share one name space."""
    first_of: dict[str, Layer] = {}
    for one in found:
        first = first_of.setdefault(one.path, one.layer)
        if first is not one.layer:
            raise one.layer.error(
                "DuplicatePath",
                f"{first} holds a file with the path {quoted(one.path)} too",
                "give the files different titles (publisher), or exclude one of them by media type (operator)",
            )


def _file_path(layer: Layer) -> str:
    """The path of a layer that is one file. Raises LayerError UnsafePath."""
    title = layer.title
    if title is None:
        return f"layer-{layer.index}"
    try:
        return canonical_path(title)
    except ValueError as error:
        raise layer.error(
            "UnsafePath",
            f"its title {quoted(title)} cannot be a path: {error}",
            "push the file under a relative path (publisher)",
        ) from error


def _warn(layer: Layer, warning: str) -> None:
    logger.warning("%s: %s", layer, warning, extra={"layer": layer.index, "layer_digest": layer.descriptor.digest})


def _not_text(found: _Found, at: int) -> LayerError:
    content = found.examined.content
    return found.layer.error(
        "NotText",
        f"the file is not UTF-8: byte {at} of {content.size_bytes} is the first that is not text"
        + _first_bytes(content, at),
        "set binary: base64 or binary: skip, or exclude it (operator), or publish text (publisher)",
        found.path,
    )


def _first_bytes(content: Content, at: int) -> str:
    # At most max_file_size is read, once, for a message; the bytes tell a gzip or an image at a glance.
    return f", there stand {quoted(content.read()[at : at + 8])}"


def _total_too_large(layer: Layer, size_bytes: int, options: ExtractOptions) -> LayerError:
    return layer.error(
        "TooLarge",
        f"up to here the files have {size_bytes} bytes; the limit is {options.max_total_size}",
        "publish less (publisher), or raise limits.max_total_size (operator)",
    )


def _empty(layer_count: int, options: ExtractOptions, artifact: str) -> LayerError:
    filtered = options.include or options.exclude or options.include_media_types or options.exclude_media_types
    return LayerError(
        reason="EmptyArtifact",
        doing=f"extracting {layer_count} layers" + (f" of {artifact}" if artifact else ""),
        cause="no file comes out" + (", with include and exclude as they are set" if filtered else ""),
        remedy="push an artifact with files (publisher), check include and exclude, "
        "or set allow_empty if readers should lose every file (operator)",
    )
