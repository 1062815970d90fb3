"""What a file's bytes are and where they lie. Reads blobs and the spool; writes to nothing but the given spool.

Rules. (1) A raw layer is not copied: its content is the blob. (2) What comes out of an archive is appended to the
spool, hashed and looked at in the same pass. (3) Contents may be read from several threads, and while others read.
"""

import codecs
import hashlib
import os
import threading
from collections.abc import Iterable
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Protocol

from msgspec import Struct

from connector.layers.layer import Layer

_READ_BYTES = 64 * 1024


class SupportsOpen(Protocol):
    """What this room needs of a blob (`connector.oci.blob.Blob` has it)."""

    def open(self) -> BinaryIO:
        """A fresh reader at the blob's first byte."""
        ...


class Content(Protocol):
    """The bytes of one file."""

    @property
    def size_bytes(self) -> int:
        """How many bytes `read` returns."""
        ...

    def read(self) -> bytes:
        """All of them. Raises LayerError SpoolFailed."""
        ...


class BlobContent(Struct, frozen=True):
    """The content of a raw layer: the blob itself."""

    layer: Layer
    blob: SupportsOpen
    size_bytes: int

    def read(self) -> bytes:
        """All bytes of the blob."""
        try:
            with self.blob.open() as reader:
                content = reader.read(self.size_bytes + 1)
        except OSError as error:
            raise self.layer.unreadable(error) from error
        if len(content) != self.size_bytes:
            raise _changed(self.layer, len(content), self.size_bytes)
        return content


class SpooledContent(Struct, frozen=True):
    """The content of an archive's entry: a slice of the spool."""

    layer: Layer
    spool: "Spool"
    offset: int
    size_bytes: int

    def read(self) -> bytes:
        """All bytes of the slice."""
        try:
            content = self.spool.read(self.offset, self.size_bytes)
        except OSError as error:
            raise self.layer.unreadable(error) from error
        if len(content) != self.size_bytes:
            raise _changed(self.layer, len(content), self.size_bytes)
        return content


class Examined(Struct, frozen=True):
    """A content, the sha256 of it in hex, and the offset of the first byte that is not UTF-8, None for text."""

    content: Content
    sha256: str
    not_text_at: int | None


class Spool:
    """An append-only view of a binary file whose slices are read with `pread` where it is a real file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._end = file.seek(0, os.SEEK_END)
        self._descriptor = _descriptor(file)
        self._unflushed = False

    def append(self, layer: Layer, pieces: Iterable[bytes | memoryview]) -> Examined:
        """Write the pieces behind what is there; hash them and check that they are text on the way."""
        start = self._end
        digest = hashlib.sha256()
        text = TextCheck()
        try:
            for piece in pieces:
                with self._lock:
                    self._file.seek(self._end)
                    self._file.write(piece)
                    self._unflushed = True
                self._end += len(piece)
                digest.update(piece)
                text.update(piece)
        except OSError as error:
            raise layer.unreadable(error) from error
        content = SpooledContent(layer, self, start, self._end - start)
        return Examined(content, digest.hexdigest(), text.finish())

    def read(self, offset: int, size_bytes: int) -> bytes:
        """A slice; shorter only if the file was cut by others. Raises OSError."""
        if self._unflushed or self._descriptor is None:
            with self._lock:
                if self._descriptor is None:
                    self._file.seek(offset)
                    return self._file.read(size_bytes)
                self._file.flush()
                self._unflushed = False
        content = os.pread(self._descriptor, size_bytes, offset)
        while len(content) < size_bytes and (rest := os.pread(self._descriptor, 1 << 30, offset + len(content))):
            content += rest[: size_bytes - len(content)]
        return content


class TextCheck:
    """Whether bytes that come in pieces are UTF-8 (RFC 3629: no surrogates, no overlong forms)."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._seen = 0
        self._bad: int | None = None

    def update(self, piece: bytes | memoryview) -> None:
        """Look at the next piece."""
        if self._bad is not None:
            return
        held = len(self._decoder.getstate()[0])
        if not held and isinstance(piece, bytes) and piece.isascii():
            self._seen += len(piece)
            return
        try:
            self._decoder.decode(piece)
        except UnicodeDecodeError as error:
            self._bad = self._seen - held + error.start
        self._seen += len(piece)

    def finish(self) -> int | None:
        """The offset of the first byte that is not text, None where all of it is."""
        if self._bad is None and (held := len(self._decoder.getstate()[0])):
            self._bad = self._seen - held
        return self._bad


def examine_blob(layer: Layer, blob: SupportsOpen) -> Examined:
    """A raw layer's content in one streaming pass; its hash is the blob's digest where that is a sha256."""
    algorithm, _, hex_digest = layer.descriptor.digest.partition(":")
    digest = None if algorithm == "sha256" else hashlib.sha256()
    text = TextCheck()
    size = 0
    try:
        with blob.open() as reader:
            while piece := reader.read(_READ_BYTES):
                size += len(piece)
                text.update(piece)
                if digest is not None:
                    digest.update(piece)
    except OSError as error:
        raise layer.unreadable(error) from error
    if size != layer.descriptor.size_bytes:
        raise _changed(layer, size, layer.descriptor.size_bytes)
    return Examined(BlobContent(layer, blob, size), hex_digest if digest is None else digest.hexdigest(), text.finish())


def _descriptor(file: BinaryIO) -> int | None:
    if isinstance(file, SpooledTemporaryFile):
        return None  # to ask for its descriptor would move it to disk
    try:
        return file.fileno()
    except OSError:
        return None


def _changed(layer: Layer, found: int, expected: int) -> Exception:
    return layer.error(
        "SpoolFailed",
        f"{found} bytes were read back where {expected} had been stored",
        "check the disk behind spool.directory, and that nothing else writes there (operator)",
    )
