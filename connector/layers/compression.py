"""A blob as the bytes that were compressed into it, piece by piece, in bounded memory. Pure over a given reader.

Rules. (1) gzip may have many members (RFC 1952, section 2.2; eStargz, bgzip), zstd many frames and skippable ones
(RFC 8878, section 3.1); all of them are read. (2) A stream that ends early, fails its checksum or is followed by other
bytes is an error, never a shorter file; zero padding after gzip is the one thing that is let pass, as gzip does.
(3) zstd may ask for a window of at most 8 MiB, which is what RFC 8878 wants every decoder to support.
"""

import sys
import zlib
from collections.abc import Iterator
from enum import Enum
from typing import BinaryIO

from connector.layers.layer import PUBLISHER, Layer, quoted
from connector.layers.limits import Budget

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Small enough that a member of 20 bytes, after which the rest of the piece is copied, costs little; large enough
# that reading is not what takes the time.
_INPUT_BYTES = 16 * 1024
_OUTPUT_BYTES = 256 * 1024

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE_MAGIC = b"\x2a\x4d\x18"  # after a first byte of 0x50 to 0x5F
_GZIP_WITH_CHECKSUM = 16 + zlib.MAX_WBITS
_WINDOW_LOG_MAX = 23


class Compression(Enum):
    """How a blob's bytes are compressed, by their first bytes."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    XZ = "xz"
    BZIP2 = "bzip2"


def sniff(head: bytes) -> Compression:
    """The compression that the first bytes (at least 6, where there are so many) show."""
    if head.startswith(_GZIP_MAGIC):
        return Compression.GZIP
    if head.startswith(_ZSTD_MAGIC) or _is_skippable(head):
        return Compression.ZSTD
    if head.startswith(b"\xfd7zXZ\x00"):
        return Compression.XZ
    if head.startswith(b"BZh"):
        return Compression.BZIP2
    return Compression.NONE


def decompress(layer: Layer, blob: BinaryIO, compression: Compression, budget: Budget) -> Iterator[bytes]:
    """The decompressed bytes, in pieces of at most 256 KiB, each counted in the budget before it is handed out.

    The iterator raises LayerError BrokenArchive and TooLarge, and is complete only when it ends by itself.
    """
    if compression in (Compression.XZ, Compression.BZIP2):
        raise layer.error(
            "BrokenArchive", f"it is compressed with {compression.value}", "compress it with gzip or zstd (publisher)"
        )
    if compression is Compression.GZIP:
        pieces = _gunzip(layer, blob, budget)
    elif compression is Compression.ZSTD:
        pieces = _unzstd(layer, blob, budget)
    else:
        pieces = _plain(blob)
    for piece in pieces:
        budget.spend_decompressed(layer, len(piece))
        yield piece


def _plain(blob: BinaryIO) -> Iterator[bytes]:
    while piece := blob.read(_OUTPUT_BYTES):
        yield piece


def _gunzip(layer: Layer, blob: BinaryIO, budget: Budget) -> Iterator[bytes]:
    pending = blob.read(_INPUT_BYTES)
    while pending:
        if len(pending) < len(_GZIP_MAGIC):
            pending += blob.read(_INPUT_BYTES)
        if not pending.startswith(_GZIP_MAGIC):
            raise _trailing(layer, pending, "gzip member")
        budget.spend_member(layer)
        member = zlib.decompressobj(_GZIP_WITH_CHECKSUM)
        while True:
            try:
                piece = member.decompress(pending, _OUTPUT_BYTES)
            except zlib.error as error:
                raise _corrupt(layer, "gzip", str(error)) from error
            pending = member.unconsumed_tail
            if piece:
                yield piece
            if member.eof:
                break
            if not piece and not pending and not (pending := blob.read(_INPUT_BYTES)):
                raise _truncated(layer, "gzip member")
        pending = _after_padding(member.unused_data, blob)


def _after_padding(rest: bytes, blob: BinaryIO) -> bytes:
    """What follows once zero padding is passed; empty at the end of the blob."""
    rest = rest or blob.read(_INPUT_BYTES)
    while rest and not (rest := rest.lstrip(b"\x00")):
        rest = blob.read(_INPUT_BYTES)
    return rest


def _unzstd(layer: Layer, blob: BinaryIO, budget: Budget) -> Iterator[bytes]:
    pending = blob.read(_INPUT_BYTES)
    while pending:
        if len(pending) < 18:  # the longest frame header, so that the window can be read off it
            pending += blob.read(_INPUT_BYTES)
        if not pending.startswith(_ZSTD_MAGIC) and not _is_skippable(pending):
            raise _trailing(layer, pending, "zstd frame")
        budget.spend_member(layer)
        _check_window(layer, pending)
        frame = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX})
        while True:
            try:
                piece = frame.decompress(pending, _OUTPUT_BYTES)
            except zstd.ZstdError as error:
                raise _corrupt(layer, "zstd", str(error)) from error
            pending = b""
            if piece:
                yield piece
            if frame.eof:
                break
            if frame.needs_input and not (pending := blob.read(_INPUT_BYTES)):
                raise _truncated(layer, "zstd frame")
        pending = frame.unused_data or blob.read(_INPUT_BYTES)


def _is_skippable(head: bytes) -> bool:
    return head[1:4] == _SKIPPABLE_MAGIC and 0x50 <= head[0] <= 0x5F


def _check_window(layer: Layer, head: bytes) -> None:
    """Refuse a window over 8 MiB with both numbers; the library only says that it is too much."""
    if not head.startswith(_ZSTD_MAGIC) or len(head) < 6 or head[4] & 0x20:  # 0x20: the content is the window
        return
    base = 1 << (10 + (head[5] >> 3))
    window = base + (base // 8) * (head[5] & 7)
    if window > 1 << _WINDOW_LOG_MAX:
        raise layer.error(
            "TooLarge",
            f"a zstd frame asks for a window of {window} bytes; at most {1 << _WINDOW_LOG_MAX} are given",
            "compress without --long and --ultra (publisher)",
        )


def _trailing(layer: Layer, found: bytes, expected: str) -> Exception:
    return layer.error(
        "BrokenArchive",
        f"where the next {expected} should begin, or nothing, stands {quoted(found[:8])}",
        f"{PUBLISHER} without the bytes after its compressed stream (publisher)",
    )


def _corrupt(layer: Layer, compression: str, detail: str) -> Exception:
    return layer.error(
        "BrokenArchive",
        f"its {compression} stream is corrupt: {detail}",
        f"{PUBLISHER}; its digest fits, so it was pushed like this (publisher)",
    )


def _truncated(layer: Layer, what: str) -> Exception:
    return layer.error(
        "BrokenArchive",
        f"it ends in the middle of a {what}",
        f"{PUBLISHER}; its digest fits, so it was cut before it was pushed (publisher)",
    )
