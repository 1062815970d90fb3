"""Small artifacts for the tests of this room: layers in memory, tars by Python's own writer, and hand-made headers."""

import gzip
import io
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from connector.errors import LayerError
from connector.layers.extract import ExtractOptions, File, extract
from connector.layers.layer import TITLE, UNPACK
from connector.oci.digest import Digest, digest_of
from connector.oci.manifest import Descriptor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TAR = "application/vnd.oci.image.layer.v1.tar"
TAR_GZIP = TAR + "+gzip"
TAR_ZSTD = TAR + "+zstd"


@dataclass(frozen=True, slots=True)
class MemoryBlob:
    """A blob as the fetching side hands it over, and how often it was opened."""

    data: bytes
    opened: list[int]

    def open(self) -> BinaryIO:
        """A fresh reader."""
        self.opened.append(1)
        return io.BytesIO(self.data)


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """A descriptor and its blob."""

    descriptor: Descriptor
    blob: MemoryBlob


def layer(
    data: bytes,
    media_type: str = TAR,
    title: str | None = None,
    unpack: str | None = None,
    algorithm: str = "sha256",
) -> BuiltLayer:
    """A layer of these bytes."""
    annotations = {TITLE: title, UNPACK: unpack}
    descriptor = Descriptor(
        media_type=media_type,
        digest=digest_of(data, algorithm),
        size_bytes=len(data),
        annotations={name: value for name, value in annotations.items() if value is not None},
    )
    return BuiltLayer(descriptor, MemoryBlob(data, []))


def extract_files(*layers: BuiltLayer, **options: Any) -> tuple[File, ...]:
    """What comes out of these layers."""
    blobs: dict[Digest, MemoryBlob] = {built.descriptor.digest: built.blob for built in layers}
    return extract([built.descriptor for built in layers], blobs, ExtractOptions(**options), io.BytesIO())


def contents(*layers: BuiltLayer, **options: Any) -> dict[str, bytes]:
    """Path and content of what comes out, in order."""
    return {file.path: file.content.read() for file in extract_files(*layers, **options)}


def failure(*layers: BuiltLayer, **options: Any) -> LayerError:
    """The LayerError that these layers end in."""
    try:
        found = extract_files(*layers, **options)
    except LayerError as error:
        return error
    raise AssertionError(f"no error, but the files {[file.path for file in found]}")


def tar(
    entries: Mapping[str, bytes] | Iterable[tuple[str, bytes] | tarfile.TarInfo], tar_format: int = tarfile.PAX_FORMAT
) -> bytes:
    """A whole archive: (name, content) pairs are files, TarInfo stands for itself (no content)."""
    pairs = entries.items() if isinstance(entries, Mapping) else entries
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        for entry in pairs:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            name, content = entry
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A directory, link or device."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def directory(name: str) -> tarfile.TarInfo:
    """A directory's entry."""
    return special(name, tarfile.DIRTYPE)


def hard_link(name: str, target: str) -> tarfile.TarInfo:
    """A hard link's entry."""
    return special(name, tarfile.LNKTYPE, target)


def symbolic_link(name: str, target: str) -> tarfile.TarInfo:
    """A symbolic link's entry."""
    return special(name, tarfile.SYMTYPE, target)


def archive_layer(entries: Mapping[str, bytes] | Iterable[tuple[str, bytes] | tarfile.TarInfo]) -> BuiltLayer:
    """An untitled gzip-compressed tar layer, as image builders write."""
    return layer(gzip.compress(tar(entries), 1, mtime=0), TAR_GZIP)


def zstd_frame(data: bytes, level: int = 3, *, checksum: bool = True) -> bytes:
    """One frame; with a checksum, as image builders write."""
    parameter = zstd.CompressionParameter
    return zstd.compress(data, options={parameter.compression_level: level, parameter.checksum_flag: int(checksum)})


def header(
    name: bytes, size: bytes, type_flag: bytes = b"0", target: bytes = b"", magic: bytes = b"ustar\x0000"
) -> bytes:
    """One header block with a right checksum and a size field as given (12 bytes at most)."""
    block = bytearray(512)
    block[0 : len(name)] = name
    block[100:108] = b"0000644\x00"
    block[124 : 124 + len(size)] = size
    block[148:156] = b" " * 8
    block[156:157] = type_flag
    block[157 : 157 + len(target)] = target
    block[257 : 257 + len(magic)] = magic
    block[148:156] = b"%06o\x00 " % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    """Content as it stands in an archive."""
    return content + bytes(-len(content) % 512)


END = bytes(1024)
