"""The archive layers of one artifact, read one after the other into one view. Pure over spooled bytes.

Rules. (1) Content goes to the spool while its archive streams by, for the paths that are wanted. (2) What turns out to
be needed only later, a file that is not wanted itself but that a wanted hard link shares, is fetched by reading its
archive once more. (3) A directory that `oras` pushed has its name in the title; its entries begin with that name or,
from other tools, do not: the first entry tells, and the name is never doubled.
"""

import logging
from collections import Counter
from collections.abc import Mapping

from msgspec import Struct, field

from connector.errors import LayerError
from connector.layers.compression import Compression, decompress
from connector.layers.content import Examined, Spool, SupportsOpen
from connector.layers.layer import UNPACK, Layer, quoted
from connector.layers.limits import Budget, canonical_entry_path, refuse_file_size
from connector.layers.overlay import Marker, Overlay, read_marker
from connector.layers.path_filter import PathFilter
from connector.layers.tar import Archive, Entry, EntryKind
from connector.oci.digest import Digest

logger = logging.getLogger(__name__)


class _Inode(Struct):
    """The content that one entry brought, shared by all hard links to it; `examined` None until it is spooled."""

    layer: Layer
    position: int
    kind: EntryKind
    size_bytes: int
    compression: Compression
    examined: Examined | None = None


class _Placed(Struct, frozen=True):
    """What stands at a path: the inode, the layer that put it there, and a hash of how the archive spells the path.

    The name itself is not kept: many long ones would take more memory than all the rest.
    """

    inode: _Inode
    layer: Layer
    spelling: int


class _Reading(Struct):
    """What is known while one archive streams by; `ignored` counts what does not become a file, for one warning."""

    layer: Layer
    names: "_Names"
    compression: Compression
    ignored: Counter[str] = field(default_factory=Counter)
    first_ignored: str = ""

    def ignore(self, what: str, name: str) -> None:
        self.ignored[what] += 1
        self.first_ignored = self.first_ignored or name


class Archives:
    """Merge the archive layers in the order of the manifest, then ask for what is visible."""

    def __init__(self, spool: Spool, budget: Budget, paths: PathFilter, max_file_size: int) -> None:
        self._spool = spool
        self._budget = budget
        self._filter = paths
        self._max_file_size = max_file_size
        self._layer: Layer | None = None
        self._overlay: Overlay[_Placed] = Overlay(self._count_directory)

    def merge(self, layer: Layer, blob: SupportsOpen, compression: Compression) -> None:
        """Lay one archive over those before. Raises LayerError."""
        self._layer = layer
        reading = _Reading(layer, _Names(layer), compression)
        try:
            with blob.open() as reader:
                archive = Archive(layer, decompress(layer, reader, compression, self._budget), self._budget)
                for entry in archive:
                    self._merge_entry(reading, archive, entry)
        except OSError as error:
            raise layer.unreadable(error) from error
        if reading.ignored:
            _warn(reading)

    def visible(self, blobs: Mapping[Digest, SupportsOpen]) -> list[tuple[str, Layer, Examined]]:
        """Path, layer and content of each wanted file that no later layer hides, in the order of the archives.

        Ask once, when all are merged.
        """
        wanted = [
            (path, placed)
            for path, placed in self._overlay
            if placed.inode.kind is EntryKind.FILE and self._filter.wants(path)
        ]
        # The tree takes more memory than its files, and nothing asks it again.
        self._overlay = Overlay(self._count_directory)
        for path, placed in wanted:
            if placed.inode.size_bytes > self._max_file_size:
                raise refuse_file_size(placed.layer, placed.inode.size_bytes, self._max_file_size, path)
        self._fetch_late([placed.inode for _, placed in wanted if placed.inode.examined is None], blobs)
        return [
            (path, placed.layer, placed.inode.examined) for path, placed in wanted if placed.inode.examined is not None
        ]

    def _merge_entry(self, reading: _Reading, archive: Archive, entry: Entry) -> None:
        layer = reading.layer
        marker, path = read_marker(reading.names.path_of(entry.name))
        if marker is Marker.NONE and entry.kind is EntryKind.DIRECTORY:
            self._overlay.put_directory(layer.index, path)  # counts the directories that it makes
            return
        self._budget.spend_entry(layer, entry.name)
        match marker:
            case Marker.WHITEOUT:
                self._overlay.take_away(layer.index, path)
            case Marker.OPAQUE:
                self._overlay.make_opaque(layer.index, path)
            case Marker.MEANINGLESS:
                reading.ignore("malformed or reserved whiteout", entry.name)
            case Marker.NONE if entry.kind is EntryKind.UNKNOWN:
                reading.ignore(entry.kind.value, entry.name)  # a volume's label has no place among the files
            case Marker.NONE:
                self._put(reading, archive, entry, path)

    def _put(self, reading: _Reading, archive: Archive, entry: Entry, path: str) -> None:
        layer = reading.layer
        if not path:
            raise _unsafe(layer, entry.name, "the path names the root, which is a directory")
        inode = self._inode(reading, entry)
        self._refuse_two_spellings(layer, path, entry.name)
        self._overlay.put(layer.index, path, _Placed(inode, layer, hash(entry.name)))
        if entry.kind is EntryKind.FILE:
            self._spool_content(archive, entry, inode, path)
        elif entry.kind is not EntryKind.HARD_LINK:
            reading.ignore(entry.kind.value, entry.name)

    def _inode(self, reading: _Reading, entry: Entry) -> _Inode:
        if entry.target is None:
            return _Inode(reading.layer, entry.position, entry.kind, entry.size_bytes, reading.compression)
        found = self._overlay.find(reading.names.path_of(entry.target))
        if found is None:
            raise reading.layer.error(
                "BrokenArchive",
                f"it is a hard link to {quoted(entry.target)}, which is not there at this point",
                "push the artifact again, from a whole file tree (publisher)",
                entry.name,
            )
        return found.inode

    def _refuse_two_spellings(self, layer: Layer, path: str, name: str) -> None:
        found = self._overlay.find(path)
        if found is not None and found.layer is layer and found.spelling != hash(name):
            raise layer.error(
                "DuplicatePath",
                f"an earlier entry spells the path {quoted(path)} otherwise, so the two are one file",
                "push the artifact again with one of the two (publisher)",
                name,
            )

    def _spool_content(self, archive: Archive, entry: Entry, inode: _Inode, path: str) -> None:
        if inode.size_bytes <= self._max_file_size and self._filter.wants(path):
            self._budget.spend_decompressed(inode.layer, entry.hole_bytes)
            inode.examined = self._spool.append(inode.layer, archive.content())

    def _fetch_late(self, inodes: list[_Inode], blobs: Mapping[Digest, SupportsOpen]) -> None:
        by_layer: dict[int, dict[int, _Inode]] = {}
        for inode in inodes:
            by_layer.setdefault(inode.layer.index, {})[inode.position] = inode
        for wanted in by_layer.values():
            self._read_again(wanted, blobs)

    def _read_again(self, wanted: dict[int, _Inode], blobs: Mapping[Digest, SupportsOpen]) -> None:
        first = next(iter(wanted.values()))
        layer = first.layer
        # The first reading has shown that it ends within the budget.
        budget = Budget(self._budget.max_total_size, self._budget.max_entries)
        try:
            with blobs[layer.descriptor.digest].open() as reader:
                archive = Archive(layer, decompress(layer, reader, first.compression, budget), budget)
                for entry in archive:
                    inode = wanted.get(entry.position)
                    if inode is not None:
                        budget.spend_decompressed(layer, entry.hole_bytes)
                        inode.examined = self._spool.append(layer, archive.content())
        except OSError as error:
            raise layer.unreadable(error) from error

    def _count_directory(self, name: str) -> None:
        assert self._layer is not None, "directories come into being while a layer is merged"
        self._budget.spend_entry(self._layer, name)


class _Names:
    """Names of one archive as paths of the artifact."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._directory = _unpacked_directory(layer)
        self._holds_directory: bool | None = None  # whether the entries begin with the directory's name

    def path_of(self, name: str) -> str:
        """The canonical path an entry's name, or a hard link's target, means. Raises LayerError UnsafePath."""
        try:
            path = canonical_entry_path(name)
        except ValueError as error:
            raise _unsafe(self._layer, name, str(error)) from error
        if not self._directory:
            return path
        inside = path == self._directory or path.startswith(self._directory + "/")
        if self._holds_directory is None:
            self._holds_directory = inside
        if not self._holds_directory:
            return f"{self._directory}/{path}" if path else self._directory
        if not inside:
            raise _unsafe(self._layer, name, f"the path lies outside of {quoted(self._directory)}, which was pushed")
        return path


def _unpacked_directory(layer: Layer) -> str:
    """The directory that the title of an unpacked layer names; '' where there is none."""
    title = layer.title
    if title is None or layer.descriptor.annotations.get(UNPACK, "").strip().lower() != "true":
        return ""
    try:
        if title.startswith("/"):
            raise ValueError("the path is absolute")
        return canonical_entry_path(title)
    except ValueError as error:
        raise layer.error(
            "UnsafePath",
            f"its title {quoted(title)} cannot be a directory: {error}",
            "push the directory under a relative path (publisher)",
        ) from error


def _unsafe(layer: Layer, name: str, cause: str) -> LayerError:
    return layer.error("UnsafePath", cause, "push the artifact again without this entry (publisher)", name)


def _warn(reading: _Reading) -> None:
    what = ", ".join(f"{count} × {name}" for name, count in reading.ignored.most_common())
    logger.warning(
        "%s: left out what is no file (%s), the first of it %s",
        reading.layer,
        what,
        quoted(reading.first_ignored),
        extra={
            "layer": reading.layer.index,
            "layer_digest": reading.layer.descriptor.digest,
            "ignored": dict(reading.ignored),
        },
    )
