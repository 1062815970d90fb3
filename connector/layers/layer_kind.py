"""What a layer is: one file, a compressed file, an archive or nothing, by its type, annotations and bytes. Pure.

| `unpack` | title | media type                | bytes           | the layer is                  |
|----------|-------|---------------------------|-----------------|-------------------------------|
| `true`   | any   | any                       | tar, gzip, zstd | an archive (others: an error) |
| `false`  | any   | any                       | any             | one file, as it is            |
| none     | no    | OCI's empty type          | any             | nothing                       |
| none     | no    | a tar type                | tar, gzip, zstd | an archive (others: an error) |
| none     | yes   | OCI's plain tar type      | any             | one file, as it is            |
| none     | yes   | any other tar type        | tar, gzip, zstd | an archive                    |
| none     | yes   | any other tar type        | others          | one file, as it is            |
| none     | any   | a compressed file's type  | gzip, zstd      | one file, decompressed (*)    |
| none     | any   | any other                 | any             | one file, as it is            |

`unpack` is the annotation `io.deis.oras.content.unpack`. OCI's empty type is `application/vnd.oci.empty.v1+json`, its
plain tar type `application/vnd.oci.image.layer.v1.tar`. A tar type ends in `.tar`, `/tar`, `/x-tar`, `/x-gtar` or
`+tar`, then perhaps in `+gzip`, `.gzip`, `+zstd` or `.zstd`. A compressed file's type ends so without being a tar
type, or is `application/gzip` or `application/zstd`; if its title ends in `.gz`, `.tgz`, `.zst` or the like, the
compressed bytes are what the name promises, and stay as they are. (*) Others: an error.

`oras push` gives the plain OCI tar type to every file whose type it is not told, and a title; so that type with a
title says nothing, and `oras pull` writes the bytes as they are: so do we. How an archive is compressed is read off
its first bytes; where the media type says another thing, that is a warning while it unpacks. A layer without a title
that is one file is called `layer-<index>`.
"""

from enum import Enum

from msgspec import Struct

from connector.layers.compression import Compression, sniff
from connector.layers.layer import PUBLISHER, UNPACK, Layer, quoted
from connector.layers.tar_header import BLOCK_BYTES, is_header

HEAD_BYTES = BLOCK_BYTES  # what `decide` wants to see of a blob

EMPTY_MEDIA_TYPE = "application/vnd.oci.empty.v1+json"
_ORAS_DEFAULT_MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar"

_SUFFIXES = {
    "+gzip": Compression.GZIP,
    ".gzip": Compression.GZIP,
    "+zstd": Compression.ZSTD,
    ".zstd": Compression.ZSTD,
}
_COMPRESSED_FILES = {
    "application/gzip": Compression.GZIP,
    "application/x-gzip": Compression.GZIP,
    "application/zstd": Compression.ZSTD,
    "application/x-zstd": Compression.ZSTD,
}
_TAR_ENDINGS = (".tar", "/tar", "/x-tar", "/x-gtar", "+tar")
_COMPRESSED_TITLES = (".gz", ".gzip", ".tgz", ".zst", ".zstd", ".tzst")


class LayerKind(Enum):
    """What a layer is."""

    NOTHING = "nothing"
    FILE = "file"
    COMPRESSED_FILE = "compressed file"
    ARCHIVE = "archive"


class Decision(Struct, frozen=True):
    """The kind, how the bytes are compressed, and what about them does not fit together, if anything."""

    kind: LayerKind
    compression: Compression = Compression.NONE
    warning: str | None = None


def decide_without_bytes(layer: Layer) -> Decision | None:
    """The decision where type and annotations settle it; None where the first bytes have a say."""
    unpack = layer.descriptor.annotations.get(UNPACK, "").strip().lower()
    if unpack == "true":
        return None
    if unpack == "false":
        return Decision(LayerKind.FILE)
    if layer.title is None:
        if layer.media_type == EMPTY_MEDIA_TYPE:
            return Decision(LayerKind.NOTHING)
    elif layer.media_type == _ORAS_DEFAULT_MEDIA_TYPE:
        return Decision(LayerKind.FILE)
    if _is_tar(layer.media_type) or _declared_compression(layer.media_type) is not None:
        return None
    return Decision(LayerKind.FILE)


def decide(layer: Layer, head: bytes) -> Decision:
    """The decision by all that is known; `head` is the blob's first 512 bytes. Raises LayerError BrokenArchive."""
    settled = decide_without_bytes(layer)
    if settled is not None:
        return settled
    found = sniff(head)
    declared = _declared_compression(layer.media_type)
    unpack = layer.descriptor.annotations.get(UNPACK, "").strip().lower() == "true"
    if not unpack and not _is_tar(layer.media_type):
        return _decide_compressed_file(layer, found, head)
    is_archive = found in (Compression.GZIP, Compression.ZSTD) or (found is Compression.NONE and is_header(head))
    if is_archive:
        # With `unpack: true` the media type is the publisher's own, and need not speak of compression at all.
        differs = not unpack and found is not (declared or Compression.NONE)
        return Decision(LayerKind.ARCHIVE, found, _differs(found) if differs else None)
    if layer.title is not None and not unpack:
        return Decision(
            LayerKind.FILE, warning=f"the media type is an archive's, but the bytes begin with {quoted(head[:8])}"
        )
    raise layer.error(
        "BrokenArchive",
        f"the layer should be an archive, but it begins with {quoted(head[:8])}"
        + (f", which is {found.value}" if found is not Compression.NONE else ""),
        f"{PUBLISHER} as tar, tar+gzip or tar+zstd, or give the file a title (publisher)",
    )


def _decide_compressed_file(layer: Layer, found: Compression, head: bytes) -> Decision:
    if layer.title is not None and layer.title.lower().endswith(_COMPRESSED_TITLES):
        return Decision(LayerKind.FILE)  # the name says that the compressed bytes are the file
    if found in (Compression.GZIP, Compression.ZSTD):
        differs = found is not _declared_compression(layer.media_type)
        return Decision(LayerKind.COMPRESSED_FILE, found, _differs(found) if differs else None)
    raise layer.error(
        "BrokenArchive",
        f"the media type is a compressed file's, but the layer begins with {quoted(head[:8])}",
        f"{PUBLISHER} with the media type of what it is, or compressed with gzip or zstd (publisher)",
    )


def _is_tar(media_type: str) -> bool:
    for suffix in _SUFFIXES:
        media_type = media_type.removesuffix(suffix)
    return media_type.endswith(_TAR_ENDINGS)


def _declared_compression(media_type: str) -> Compression | None:
    for suffix, compression in _SUFFIXES.items():
        if media_type.endswith(suffix):
            return compression
    return _COMPRESSED_FILES.get(media_type)


def _differs(found: Compression) -> str:
    how = "not compressed" if found is Compression.NONE else f"compressed with {found.value}"
    return f"the media type says otherwise, but the bytes are {how}"
