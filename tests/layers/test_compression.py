"""gzip and zstd as they occur: many members, many frames, cut, padded, followed by other bytes, or far too large."""

import gzip
import io
import struct

import pytest

from connector.errors import LayerError
from connector.layers.compression import Compression, decompress, sniff
from connector.layers.layer import Layer
from connector.layers.limits import Budget
from tests.layers.artifacts import TAR_GZIP, layer, zstd_frame

TEXT = b"".join(b"line %d\n" % number for number in range(2000))
SKIPPABLE = struct.pack("<II", 0x184D2A55, 300) + bytes(300)


def unpack(data: bytes, compression: Compression, budget: Budget | None = None) -> bytes:
    """All of it, and no piece over 256 KiB."""
    pieces = list(
        decompress(
            Layer(0, layer(data, TAR_GZIP).descriptor), io.BytesIO(data), compression, budget or Budget(10**8, 1000)
        )
    )
    assert all(len(piece) <= 256 * 1024 for piece in pieces)
    return b"".join(pieces)


def unpack_error(data: bytes, compression: Compression, budget: Budget | None = None) -> LayerError:
    with pytest.raises(LayerError) as caught:
        unpack(data, compression, budget)
    return caught.value


def members(size: int) -> bytes:
    """The text cut into gzip members of so many bytes, as eStargz and `pigz -i` write."""
    return b"".join(gzip.compress(TEXT[at : at + size], mtime=0) for at in range(0, len(TEXT), size))


def test_the_first_bytes_tell_the_compression() -> None:
    assert sniff(gzip.compress(b"")) is Compression.GZIP
    assert sniff(zstd_frame(b"")) is Compression.ZSTD
    assert sniff(SKIPPABLE) is Compression.ZSTD
    assert sniff(b"\xfd7zXZ\x00\x00") is Compression.XZ
    assert sniff(b"BZh91AY") is Compression.BZIP2
    assert sniff(b"") is Compression.NONE
    assert sniff(b"plain text") is Compression.NONE


@pytest.mark.parametrize("size", [100, 1536, 30000])
def test_every_member_of_a_gzip_is_read(size: int) -> None:
    assert unpack(members(size), Compression.GZIP) == TEXT


def test_an_empty_member_and_zero_padding_change_nothing() -> None:
    data = gzip.compress(b"") + gzip.compress(TEXT) + bytes(600) + gzip.compress(b"more") + bytes(70000)

    assert unpack(data, Compression.GZIP) == TEXT + b"more"


@pytest.mark.parametrize("cut", [1, 8, 20, 1000])
def test_a_truncated_gzip_is_an_error_not_a_shorter_file(cut: int) -> None:
    error = unpack_error(gzip.compress(TEXT)[:-cut], Compression.GZIP)

    assert error.reason == "BrokenArchive"
    assert "ends in the middle of a gzip member" in str(error)


def test_a_gzip_cut_between_two_bytes_of_the_next_magic_is_an_error() -> None:
    assert unpack_error(gzip.compress(TEXT) + b"\x1f", Compression.GZIP).reason == "BrokenArchive"


def test_bytes_after_a_gzip_are_refused() -> None:
    error = unpack_error(gzip.compress(TEXT) + b"garbage", Compression.GZIP)

    assert "gzip member should begin, or nothing, stands b'garbage'" in str(error)


def test_a_wrong_checksum_is_an_error() -> None:
    data = bytearray(gzip.compress(TEXT))
    data[-5] ^= 1

    assert unpack_error(bytes(data), Compression.GZIP).reason == "BrokenArchive"


def test_every_frame_of_a_zstd_is_read_and_skippable_frames_are_passed() -> None:
    half = len(TEXT) // 2
    data = (
        SKIPPABLE
        + zstd_frame(TEXT[:half])
        + SKIPPABLE
        + zstd_frame(TEXT[half:], checksum=False)
        + zstd_frame(b"")
        + SKIPPABLE
    )

    assert unpack(data, Compression.ZSTD) == TEXT


@pytest.mark.parametrize("cut", [1, 4, 100])
def test_a_truncated_zstd_is_an_error_not_a_shorter_file(cut: int) -> None:
    error = unpack_error(zstd_frame(TEXT)[:-cut], Compression.ZSTD)

    assert "ends in the middle of a zstd frame" in str(error)


def test_a_truncated_skippable_frame_is_an_error() -> None:
    assert unpack_error(zstd_frame(TEXT) + SKIPPABLE[:-1], Compression.ZSTD).reason == "BrokenArchive"


def test_bytes_after_a_zstd_are_refused() -> None:
    assert "zstd frame should begin" in str(unpack_error(zstd_frame(TEXT) + bytes(8), Compression.ZSTD))


def test_a_zstd_window_over_8_mib_is_refused_with_both_numbers() -> None:
    # Frame header: magic, no flags, window descriptor 2^27 = exponent 17.
    data = b"\x28\xb5\x2f\xfd" + bytes([0x00, 17 << 3]) + b"\x01\x00\x00"

    error = unpack_error(data, Compression.ZSTD)

    assert error.reason == "TooLarge"
    assert "134217728" in str(error)
    assert "8388608" in str(error)


def test_zstd_at_its_highest_plain_level_is_read() -> None:
    assert unpack(zstd_frame(TEXT * 50, level=19), Compression.ZSTD) == TEXT * 50


def test_a_bomb_stops_at_the_budget_and_names_the_setting() -> None:
    budget = Budget(max_total_size=1000, max_entries=10)

    error = unpack_error(gzip.compress(bytes(80 << 20), 1), Compression.GZIP, budget)

    assert error.reason == "TooLarge"
    assert "limits.max_total_size" in error.remedy
    assert budget.decompressed_bytes <= budget.max_decompressed_size + 256 * 1024


def test_members_without_end_stop_at_the_budget() -> None:
    error = unpack_error(gzip.compress(b"") * 100, Compression.GZIP, Budget(max_total_size=1000, max_entries=10))

    assert error.reason == "TooLarge"
    assert "80 gzip members" in str(error)


@pytest.mark.parametrize("compression", [Compression.XZ, Compression.BZIP2])
def test_a_compression_we_do_not_read_is_named(compression: Compression) -> None:
    assert compression.value in str(unpack_error(b"", compression))
