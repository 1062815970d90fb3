"""What an artifact may cost to extract, and what a path may look like. Pure.

Rules. (1) Bytes are counted where they come out of a decompressor, never taken from a header. (2) What a limit counts
is spent by every layer of one artifact together, so many small layers cannot do what one large layer may not.
(3) One canonical form for a path: relative, '/'-separated, no '.', '..' or empty parts.
"""

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from connector.errors import LayerError
from connector.layers.layer import Layer, quoted

MAX_PATH_BYTES = 4096  # Linux's PATH_MAX; a record's key holds it beside the artifact

# What a tar adds to its files: 512 bytes of header, up to 511 of padding, a PAX header, blocks of zeros at the end;
# and what lower layers hold that later ones hide. Twice the files and 64 MiB is ample for both.
_OVERHEAD_FACTOR = 2
_OVERHEAD_BYTES = 64 * 1024 * 1024

# Names are kept in memory, where one character outside of ASCII may widen a whole text to 4 bytes a character. 256
# bytes each on average is far above what file trees have (30 to 60).
_PATH_BYTES_PER_ENTRY = 256

# PAX and long-name headers: what a file tree needs is some 50 to 300 bytes an entry. Records of 6 bytes, 1 µs each,
# would otherwise make a small blob work for minutes.
_HEADER_BYTES_PER_ENTRY = 512
_LEAST_HEADER_BYTES = 4 * 1024 * 1024

# eStargz writes two gzip members a file, zstd:chunked a frame a chunk. Each costs a new decompressor (5 µs).
_MEMBERS_PER_ENTRY = 8

# C0, DEL and C1: nothing in a terminal, a log line or a key wants them.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")


class Budget(Struct):
    """What is left to spend while one artifact is extracted; each method takes a part or raises LayerError TooLarge."""

    max_total_size: int
    max_entries: int
    decompressed_bytes: int = 0
    entries: int = 0
    path_bytes: int = 0
    header_bytes: int = 0
    members: int = 0

    @property
    def max_decompressed_size(self) -> int:
        """Bytes that may come out of all decompressors."""
        return max_decompressed_size(self.max_total_size)

    def spend_decompressed(self, layer: Layer, count: int) -> None:
        """Count bytes as they come out of a decompressor (or out of a plain archive)."""
        self.decompressed_bytes += count
        if self.decompressed_bytes > self.max_decompressed_size:
            raise layer.error(
                "TooLarge",
                f"more than {self.max_decompressed_size} bytes came out (stopped at {self.decompressed_bytes}); "
                f"that is the most for max_total_size {self.max_total_size}",
                "publish less (publisher), or raise limits.max_total_size (operator)",
            )

    def spend_entry(self, layer: Layer, entry: str) -> None:
        """Count one file, link, device or directory, also a directory that is only implied by a path."""
        self.entries += 1
        self.path_bytes += len(entry) if entry.isascii() else 4 * len(entry)
        if self.path_bytes > self.max_entries * _PATH_BYTES_PER_ENTRY:
            raise layer.error(
                "TooLarge",
                f"the paths in the archives take more than {self.max_entries * _PATH_BYTES_PER_ENTRY} bytes, "
                f"{_PATH_BYTES_PER_ENTRY} for each of max_entries {self.max_entries}",
                "publish shorter or fewer paths (publisher), or raise limits.max_entries (operator)",
                entry,
            )
        if self.entries > self.max_entries:
            raise layer.error(
                "TooLarge",
                f"the archives hold more than {self.max_entries} files and directories",
                "publish fewer (publisher), or raise limits.max_entries (operator)",
                entry,
            )

    def spend_header(self, layer: Layer, count: int) -> None:
        """Count the content of one PAX or long-name header, or of a block of a sparse map."""
        self.header_bytes += count
        most = max(_LEAST_HEADER_BYTES, self.max_entries * _HEADER_BYTES_PER_ENTRY)
        if self.header_bytes > most:
            raise layer.error(
                "TooLarge",
                f"the archives' PAX and long-name headers and sparse maps take more than {most} bytes",
                "publish without attributes and sparse files (publisher), or raise limits.max_entries (operator)",
            )

    def spend_member(self, layer: Layer) -> None:
        """Count one gzip member or zstd frame."""
        self.members += 1
        if self.members > self.max_entries * _MEMBERS_PER_ENTRY:
            raise layer.error(
                "TooLarge",
                f"more than {self.max_entries * _MEMBERS_PER_ENTRY} gzip members or zstd frames, "
                f"{_MEMBERS_PER_ENTRY} for each of max_entries {self.max_entries}",
                "compress the layer in larger pieces (publisher), or raise limits.max_entries (operator)",
            )


def max_decompressed_size(max_total_size: int) -> int:
    """Bytes that may come out of all decompressors: files, headers, padding and what is left out again."""
    return _OVERHEAD_FACTOR * max_total_size + _OVERHEAD_BYTES


def limit_file(layer: Layer, pieces: Iterable[bytes], max_file_size: int) -> Iterator[bytes]:
    """The pieces of one file whose size nobody told, until they are more than a file may have."""
    size_bytes = 0
    for piece in pieces:
        size_bytes += len(piece)
        if size_bytes > max_file_size:
            raise refuse_file_size(layer, size_bytes, max_file_size, at_least=True)
        yield piece


def refuse_file_size(
    layer: Layer, size_bytes: int, max_file_size: int, entry: str | None = None, *, at_least: bool = False
) -> LayerError:
    """The error for a file over `max_file_size`."""
    name = quoted(layer.title) if entry is None and layer.title is not None else "the file"
    return layer.error(
        "TooLarge",
        f"{name} has {'at least ' if at_least else ''}{size_bytes} bytes; the limit is {max_file_size}",
        "publish a smaller file (publisher), exclude it, or raise limits.max_file_size (operator)",
        entry,
    )


def canonical_path(name: str) -> str:
    """Return a title as it will stand in a record's key: 'a//b', './a/b' and 'a/./b' are 'a/b'.

    Case and Unicode form stay as they are; at most 4,096 bytes of UTF-8. Raises ValueError, with the cause as its
    text, for absolute, climbing, empty and over-long names, names of directories ('a/', '.'), and names with NUL,
    control characters, backslashes or a drive.
    """
    if name.startswith("/"):
        raise ValueError("the path is absolute")
    if "\\" in name:
        raise ValueError("the path is written for Windows; use '/' between its parts")
    path = _canonical(name)
    if not path:
        raise ValueError("the path is empty")
    if name.endswith(("/", "/.")):
        raise ValueError("the path names a directory, not a file")
    return path


def canonical_entry_path(name: str) -> str:
    """Return the path of an archive entry or of a directory that is unpacked; '' is the archive's root.

    As `canonical_path`, but '/a', 'a' and 'a/' are one (image-spec layer.md knows relative paths only, and every
    unpacker takes the leading '/' off), and a backslash is a character like others, as in systemd's unit names,
    unless a reader on Windows would climb by it.
    """
    if "\\" in name and ".." in name.replace("\\", "/").split("/"):
        raise ValueError("the path climbs out of the archive on Windows")
    return _canonical(name)


def _canonical(name: str) -> str:
    if len(name) > MAX_PATH_BYTES or len(encoded := _encoded(name)) > MAX_PATH_BYTES:
        raise ValueError(f"the path is longer than {MAX_PATH_BYTES} bytes")
    if (control := _CONTROL.search(name)) is not None:
        raise ValueError(f"the path holds the control character {control[0]!r}")
    if len(encoded) == 0:
        return ""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("the path climbs ('..')")
    path = "/".join(parts)
    if _DRIVE.match(path):
        raise ValueError("the path begins with a drive of Windows")
    return path


def _encoded(name: str) -> bytes:
    try:
        return name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("the path is not Unicode text (it holds a lone surrogate)") from error
