"""A tar stream as entries, in bounded memory: ustar, PAX (POSIX.1-2001), GNU and v7. Pure over given bytes.

Python's own tarfile is not used: it reads long headers whole (a 0.4 MB gzip took 1.2 GB), and ends without an error at
a corrupt header and where an archive is cut at a block border.

Rules. (1) Each header's checksum must hold. (2) The archive must end: two blocks of zeros, or one at the very end of
the stream; after that come zeros only. (3) A PAX or GNU long-name header has at most 1 MiB. (4) A name is UTF-8, or
the archive is refused: lossy text could make two names one. (5) Only files, directories and hard links mean something
here; symbolic links, devices, FIFOs and what else there is have a place in the view, but no content.
"""

from collections.abc import Iterator
from enum import Enum

from msgspec import Struct

from connector.errors import LayerError
from connector.layers.layer import PUBLISHER, Layer, quoted
from connector.layers.limits import Budget
from connector.layers.sparse import (
    PAX_PREFIX,
    SparseMap,
    content_map_lines,
    is_extended,
    is_map_in_content,
    read_content_map,
    read_gnu_map,
    read_pax_map,
    zeros,
)
from connector.layers.tar_header import BLOCK_BYTES, BadHeader, Header, parse_header, parse_pax_records

MAX_HEADER_BYTES = 1024 * 1024  # a path has at most 4,096 bytes; extended attributes may take some 100 KiB
_MAX_HEADERS_BEFORE_AN_ENTRY = 16  # GNU writes two, PAX one; a chain without end would be work without an entry
_MAX_MAP_BLOCKS = 128

_ZERO_BLOCK = bytes(BLOCK_BYTES)


class EntryKind(Enum):
    """What an entry is to us."""

    FILE = "file"
    DIRECTORY = "directory"
    HARD_LINK = "hard link"
    SYMBOLIC_LINK = "symbolic link"
    DEVICE = "device or FIFO"
    UNKNOWN = "entry of unknown type"


_KINDS = {
    b"0": EntryKind.FILE,
    b"\x00": EntryKind.FILE,
    b"7": EntryKind.FILE,  # contiguous; POSIX: treat as a file
    b"1": EntryKind.HARD_LINK,
    b"2": EntryKind.SYMBOLIC_LINK,
    b"3": EntryKind.DEVICE,
    b"4": EntryKind.DEVICE,
    b"5": EntryKind.DIRECTORY,
    b"6": EntryKind.DEVICE,
    b"S": EntryKind.FILE,  # sparse, GNU's old form
}

# A header of these has no content after it, whatever its size field says, as GNU tar and Go read it.
_WITHOUT_CONTENT = (EntryKind.HARD_LINK, EntryKind.SYMBOLIC_LINK, EntryKind.DEVICE, EntryKind.DIRECTORY)


class Entry(Struct, frozen=True):
    """One entry of an archive, its names as they stand there.

    `position` counts the entries from 0; `size_bytes` is the content's, holes of a sparse file included, 0 where there
    is none; `hole_bytes` of it were not stored; `target` is the name a hard link shares its content with, None for all
    others.
    """

    position: int
    name: str
    kind: EntryKind
    size_bytes: int
    target: str | None = None
    hole_bytes: int = 0


class Archive:
    """The entries of one tar stream. Iterate once; `content()` belongs to the entry that came last."""

    def __init__(self, layer: Layer, pieces: Iterator[bytes], budget: Budget) -> None:
        self._layer = layer
        self._budget = budget
        self._stream = _Stream(pieces)
        self._left = 0  # stored bytes of the entry's content that were not read yet
        self._padding = 0
        self._sparse: SparseMap | None = None

    def __iter__(self) -> Iterator[Entry]:
        position = 0
        while (entry := self._next(position)) is not None:
            yield entry
            self._pass_content(entry)
            position += 1
        self._drain()

    def content(self) -> Iterator[bytes | memoryview]:
        """The content of the entry that came last, in pieces of at most 256 KiB; what is not read is passed over."""
        if self._sparse is None:
            yield from self._stored(self._left)
            return
        at = 0
        for offset, length in self._sparse.runs:
            yield from zeros(offset - at)
            yield from self._stored(length)
            at = offset + length
        yield from zeros(self._sparse.real_size - at)

    def _stored(self, count: int) -> Iterator[memoryview]:
        while count:
            piece = self._stream.some(count)
            if not piece:
                raise self._cut("in the middle of a file")
            count -= len(piece)
            self._left -= len(piece)
            yield piece

    def _pass_content(self, entry: Entry) -> None:
        left = self._left + self._padding
        while left:
            piece = self._stream.some(left)
            if not piece:
                raise self._cut("in the middle of a file", entry.name)
            left -= len(piece)

    def _next(self, position: int) -> Entry | None:
        long_name: bytes | None = None
        long_target: bytes | None = None
        pax: dict[str, bytes] = {}
        for _ in range(_MAX_HEADERS_BEFORE_AN_ENTRY):
            header = self._header(position)
            if header is None:
                if long_name is not None or long_target is not None or pax:
                    raise self._cut("after a header that belongs to a next entry")
                return None
            match header.type_flag:
                case b"L":
                    long_name = self._meta(header).split(b"\x00", 1)[0]
                case b"K":
                    long_target = self._meta(header).split(b"\x00", 1)[0]
                case b"x" | b"X":
                    pax = self._pax(header)
                case b"g":
                    self._refuse_global(self._pax(header))
                case _:
                    return self._entry(position, header, long_name, long_target, pax)
        raise self._broken(f"more than {_MAX_HEADERS_BEFORE_AN_ENTRY} headers stand before one entry")

    def _header(self, position: int) -> Header | None:
        """The next header; None at the end mark."""
        block = self._stream.exactly(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            raise self._cut(f"after {position} entries, without the blocks of zeros that end an archive")
        if block == _ZERO_BLOCK:
            second = self._stream.exactly(BLOCK_BYTES)
            if second and second != _ZERO_BLOCK:
                raise self._broken(f"a single block of zeros stands after entry {position - 1}, and more follows")
            return None
        try:
            return parse_header(block)
        except BadHeader as error:
            raise self._broken(f"the header after entry {position - 1} is none: {error}") from error

    def _meta(self, header: Header) -> bytes:
        """The content of a PAX or long-name header, at most 1 MiB."""
        size = header.size_bytes
        if size > MAX_HEADER_BYTES:
            raise self._layer.error(
                "TooLarge",
                f"a header of type {quoted(header.type_flag)} claims {size} bytes; at most {MAX_HEADER_BYTES} are read",
                f"{PUBLISHER} without such long names or attributes (publisher)",
            )
        self._budget.spend_header(self._layer, size)
        padded = self._stream.exactly(size + -size % BLOCK_BYTES)
        if len(padded) < size + -size % BLOCK_BYTES:
            raise self._cut("in the middle of a header")
        return padded[:size]

    def _pax(self, header: Header) -> dict[str, bytes]:
        try:
            return parse_pax_records(self._meta(header))
        except BadHeader as error:
            raise self._broken(f"a PAX header is malformed: {error}") from error

    def _refuse_global(self, records: dict[str, bytes]) -> None:
        # Unpackers differ in whether a global header's path or size holds for each entry, so what they would unpack
        # differs too. Nothing writes such headers; git writes a comment.
        if records:
            names = ", ".join(sorted(records))
            raise self._broken(f"a global PAX header sets {names} for all entries, which unpackers read differently")

    def _entry(
        self, position: int, header: Header, long_name: bytes | None, long_target: bytes | None, pax: dict[str, bytes]
    ) -> Entry:
        own_name = header.name if long_name is None else long_name
        name = self._text(pax.get(PAX_PREFIX + "name", pax.get("path", own_name)))
        kind = _KINDS.get(header.type_flag, EntryKind.UNKNOWN)
        if header.type_flag == b"\x00" and name.endswith("/"):
            kind = EntryKind.DIRECTORY  # how v7 archives write directories
        self._left = 0 if kind in _WITHOUT_CONTENT else self._size(header, pax, name)
        self._padding = -self._left % BLOCK_BYTES
        self._sparse = None
        if kind is EntryKind.FILE:
            try:
                self._sparse = self._sparse_map(header, pax)
            except BadHeader as error:
                raise self._broken(f"a sparse file's header is malformed: {error}", name) from error
        target = None
        if kind is EntryKind.HARD_LINK:
            target = self._text(pax.get("linkpath", header.target if long_target is None else long_target))
        if self._sparse is not None:
            return Entry(position, name, kind, self._sparse.real_size, target, self._sparse.hole_bytes)
        return Entry(position, name, kind, self._left, target)

    def _sparse_map(self, header: Header, pax: dict[str, bytes]) -> SparseMap | None:
        """Where the stored bytes belong; None for a file without holes. What precedes the content has been read."""
        if header.type_flag == b"S":
            blocks = [header.block]
            while is_extended(blocks[-1], first=len(blocks) == 1):
                blocks.append(self._map_block(len(blocks)))
            return read_gnu_map(blocks, self._left)
        if is_map_in_content(pax):
            blocks = [self._content_map_block(0)]
            lines = content_map_lines(blocks[0]) - blocks[0].count(b"\n")
            while lines > 0:
                blocks.append(self._content_map_block(len(blocks)))
                lines -= blocks[-1].count(b"\n")
            return read_content_map(b"".join(blocks), pax, self._left)
        if any(key.startswith(PAX_PREFIX) for key in pax):
            return read_pax_map(pax, self._left)
        return None

    def _content_map_block(self, blocks_before: int) -> bytes:
        if self._left < BLOCK_BYTES:
            raise BadHeader("its sparse map is longer than what is stored")
        self._left -= BLOCK_BYTES
        return self._map_block(blocks_before)

    def _map_block(self, blocks_before: int) -> bytes:
        # 64 KiB hold 2,700 runs.
        if blocks_before >= _MAX_MAP_BLOCKS:
            raise BadHeader(f"its sparse map is longer than {_MAX_MAP_BLOCKS * BLOCK_BYTES} bytes")
        self._budget.spend_header(self._layer, BLOCK_BYTES)
        block = self._stream.exactly(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            raise BadHeader("the archive ends in the middle of its sparse map")
        return block

    def _size(self, header: Header, pax: dict[str, bytes], name: str) -> int:
        text = pax.get("size")
        if text is None:
            return header.size_bytes
        if not (text.isdigit() and len(text) < 19):  # below 2^63, so no size overflows anywhere
            raise self._broken(f"a PAX header gives the size {quoted(text)}", name)
        return int(text)

    def _text(self, name: bytes) -> str:
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._layer.error(
                "UnsafePath",
                f"the name is not UTF-8 ({error.reason} at byte {error.start})",
                "rename the file and push the artifact again (publisher)",
                name,
            ) from error

    def _drain(self) -> None:
        """Read to the end of the stream, so that checksums are checked; only zeros may be left."""
        while piece := self._stream.some(1 << 20):
            if piece.nbytes != bytes(piece).count(0):
                raise self._broken("after the end of the archive come more bytes than padding, perhaps a second one")

    def _cut(self, where: str, entry: str | None = None) -> LayerError:
        return self._broken(f"the archive ends {where}", entry)

    def _broken(self, cause: str, entry: str | None = None) -> LayerError:
        return self._layer.error("BrokenArchive", cause, f"{PUBLISHER}, from a whole archive (publisher)", entry)


class _Stream:
    """Pieces of any size as runs of wanted sizes; holds one piece at a time."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")

    def some(self, most: int) -> memoryview:
        """At least one byte and at most so many; empty at the end."""
        while not self._piece:
            following = next(self._pieces, None)
            if following is None:
                return self._piece
            self._piece = memoryview(following)
        run, self._piece = self._piece[:most], self._piece[most:]
        return run

    def exactly(self, count: int) -> bytes:
        """So many bytes, fewer only at the end."""
        run = self.some(count)
        if len(run) == count:
            return bytes(run)
        gathered = bytearray(run)
        while len(gathered) < count and (run := self.some(count - len(gathered))):
            gathered += run
        return bytes(gathered)
