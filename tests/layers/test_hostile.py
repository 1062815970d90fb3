"""Cuts, flips and bombs: each ends in a LayerError or the exact files, in bounded time and memory."""

import gzip
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.errors import LayerError
from tests.layers.artifacts import (
    TAR,
    TAR_GZIP,
    TAR_ZSTD,
    BuiltLayer,
    contents,
    directory,
    failure,
    hard_link,
    header,
    layer,
    padded,
    tar,
    zstd_frame,
)

FILES = {"flows/a.yaml": b"a: 1\n" * 200, "n" * 130: b"long name", "flows/b": b"", "c": bytes(range(128)) * 20}
ARCHIVE = tar([directory("flows"), *FILES.items(), hard_link("flows/link", "c")])
EXPECTED = {**FILES, "flows/link": FILES["c"]}
JSON = b'{"a": [1, 2, 3]}\n' * 300


def gzip_members(data: bytes) -> bytes:
    return b"".join(gzip.compress(data[at : at + 1536], mtime=0) for at in range(0, len(data), 1536))


def zstd_frames(data: bytes) -> bytes:
    skippable = b"\x5a\x2a\x4d\x18\x10\x00\x00\x00" + b"table of content"
    return b"".join(zstd_frame(data[at : at + 1536]) + skippable for at in range(0, len(data), 1536))


# Each checksummed, so that a flip which gets through would have to be harmless.
CHECKSUMMED: dict[str, tuple[bytes, str, dict[str, bytes]]] = {
    "gzip": (gzip.compress(ARCHIVE, mtime=0), TAR_GZIP, EXPECTED),
    "gzip, many members": (gzip_members(ARCHIVE), TAR_GZIP, EXPECTED),
    "zstd": (zstd_frame(ARCHIVE), TAR_ZSTD, EXPECTED),
    "zstd, many frames": (zstd_frames(ARCHIVE), TAR_ZSTD, EXPECTED),
    "json+gzip": (gzip.compress(JSON, mtime=0), "application/json+gzip", {"layer-0": JSON}),
    "json+zstd": (zstd_frame(JSON), "application/json+zstd", {"layer-0": JSON}),
}
FORMS = st.sampled_from(sorted(CHECKSUMMED))


def outcome(built: BuiltLayer) -> dict[str, bytes] | None:
    """The files, or None where a LayerError was raised; anything else fails the test."""
    start = time.process_time()
    try:
        return contents(built)
    except LayerError:
        return None
    finally:
        assert time.process_time() - start < 1


@settings(max_examples=200, deadline=None)
@given(FORMS, st.floats(0, 1, exclude_max=True))
def test_a_compressed_layer_cut_anywhere_is_an_error_or_whole(form: str, where: float) -> None:
    data, media_type, expected = CHECKSUMMED[form]
    cut = int(where * len(data))

    found = outcome(layer(data[:cut], media_type))

    # A cut right before a trailing skippable frame loses nothing.
    assert found in (None, expected)


@settings(max_examples=400, deadline=None)
@given(FORMS, st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_flipped_byte_in_a_compressed_layer_is_an_error_or_harmless(form: str, where: float, mask: int) -> None:
    data, media_type, expected = CHECKSUMMED[form]
    at = int(where * len(data))
    flipped = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]

    found = outcome(layer(flipped, media_type))

    assert found in (None, expected)


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_flipped_byte_in_a_plain_archive_never_hangs_or_escapes(where: float, mask: int) -> None:
    at = int(where * len(ARCHIVE))
    flipped = ARCHIVE[:at] + bytes([ARCHIVE[at] ^ mask]) + ARCHIVE[at + 1 :]

    # Nothing checks the content of a plain tar but the blob's digest; a header has its checksum.
    found = outcome(layer(flipped, TAR))

    assert found is None or len(found) == len(EXPECTED)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600), st.sampled_from([TAR, TAR_GZIP, TAR_ZSTD, "a/b+gzip", "a/b"]), st.booleans())
def test_any_bytes_under_any_type_end_in_files_or_a_layer_error(data: bytes, media_type: str, unpack: bool) -> None:
    outcome(layer(data, media_type, title="t" if unpack else None, unpack="true" if unpack else None))


# Memory. Each bomb is unpacked by a process of its own, which says how far its peak rose; the archives are small here
# and large there, and the process has their bytes on disk only.

MEASURE = """
import sys, tempfile
from connector.errors import LayerError
from connector.layers.extract import ExtractOptions, extract
from connector.oci.digest import Digest
from connector.oci.manifest import Descriptor

path, media_type, size = sys.argv[1], sys.argv[2], int(sys.argv[3])

def peak_kibibytes():
    # Not ru_maxrss, which begins at what the parent had when it started us.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

class Blob:
    def open(self):
        return open(path, "rb")

digest = Digest("sha256:" + "0" * 64)
with tempfile.TemporaryFile() as spool:
    before = peak_kibibytes()
    try:
        found = extract([Descriptor(media_type, digest, size)], {digest: Blob()}, ExtractOptions(), spool)
        outcome = f"{len(found)} files"
    except LayerError as error:
        outcome = error.reason
    print(outcome, (peak_kibibytes() - before) // 1024)
"""

MIB = 1 << 20


def measure(tmp_path: Path, data: bytes, media_type: str) -> tuple[str, int]:
    """What became of the layer, and by how many MiB the peak of memory rose."""
    blob = tmp_path / "blob"
    blob.write_bytes(data)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(blob), media_type, str(len(data))],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    words, _, mebibytes = run.stdout.strip().rpartition(" ")
    print(words, mebibytes, "MiB")
    return words, int(mebibytes)


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_a_bomb_of_zeros_takes_a_few_mebibytes(tmp_path: Path, form: str) -> None:
    start = header(b"big", b"\x80" + (1 << 40).to_bytes(11, "big"))
    if form == "gzip":
        data = gzip.compress(start, 1) + gzip.compress(bytes(8 * MIB), 1) * 40
    else:
        data = zstd_frame(start) + zstd_frame(bytes(8 * MIB)) * 40

    words, mebibytes = measure(tmp_path, data, TAR_GZIP if form == "gzip" else TAR_ZSTD)

    assert words == "TooLarge"
    assert mebibytes < 24


@pytest.mark.parametrize("type_flag", [b"L", b"K", b"x", b"g"])
def test_a_header_bomb_takes_a_few_mebibytes(tmp_path: Path, type_flag: bytes) -> None:
    start = header(b"long", b"%011o\x00" % (400 * MIB), type_flag)
    data = gzip.compress(start, 1) + gzip.compress(b"a" * (8 * MIB), 1) * 50

    words, mebibytes = measure(tmp_path, data, TAR_GZIP)

    assert words == "TooLarge"
    assert mebibytes < 8


def test_headers_just_under_the_limit_one_after_the_other_take_a_few_mebibytes(tmp_path: Path) -> None:
    value = b"a" * (MIB - 40)
    record = b"%d path=" % (len(value) + 14) + value + b"\n"
    one = header(b"pax", b"%011o\x00" % len(record), b"x") + padded(record)

    words, mebibytes = measure(tmp_path, gzip.compress(one * 14, 1), TAR_GZIP)

    assert words == "BrokenArchive"
    assert mebibytes < 12


def test_headers_of_many_small_records_do_not_buy_minutes_of_work() -> None:
    records = b"6 a=1\n" * (MIB // 6)
    one = header(b"pax", b"%011o\x00" % len(records), b"x") + padded(records) + header(b"f", b"00000000000\x00")
    data = gzip.compress(one, 6) * 100

    start = time.process_time()
    error = failure(layer(data, TAR_GZIP), max_entries=8000)

    assert "headers and sparse maps take more than 4194304 bytes" in str(error)
    assert time.process_time() - start < 4


def test_sparse_maps_of_many_runs_do_not_buy_minutes_of_work() -> None:
    lines = b"16000\n" + b"0\n0\n" * 16_000
    stored = padded(lines)
    pax = b"".join(
        b"%d %b\n" % (len(text) + 4, text)
        for text in (b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.realsize=0")
    )
    one = (
        header(b"pax", b"%011o\x00" % len(pax), b"x") + padded(pax) + header(b"f", b"%011o\x00" % len(stored)) + stored
    )
    data = gzip.compress(one, 6) * 4_000

    start = time.process_time()
    error = failure(layer(data, TAR_GZIP), max_entries=8000)

    assert "sparse maps take more than 4194304 bytes" in str(error)
    assert time.process_time() - start < 4


def test_as_many_paths_as_allowed_stay_within_48_mebibytes(tmp_path: Path) -> None:
    names = (f"dir-{number % 97}/🙂 a file with a longer name {number:07}" for number in range(29_000))
    entries = b"".join(header(name.encode(), b"00000000000\x00") for name in names)

    words, mebibytes = measure(tmp_path, gzip.compress(entries + bytes(1024), 1), TAR_GZIP)

    assert words == "29000 files"
    assert mebibytes < 48


def test_the_longest_paths_run_into_the_budget_before_they_fill_the_memory(tmp_path: Path) -> None:
    def one(number: int) -> bytes:
        name = (f"{number:06}" + "🙂" * 1000).encode()
        return (
            header(b"././@LongLink", b"%011o\x00" % len(name), b"L") + padded(name) + header(b"x", b"00000000000\x00")
        )

    data = gzip.compress(b"".join(one(number) for number in range(4000)) + bytes(1024), 1)

    words, mebibytes = measure(tmp_path, data, TAR_GZIP)

    assert words == "TooLarge"
    assert mebibytes < 64


def test_directories_that_paths_only_imply_are_counted(tmp_path: Path) -> None:
    def one(number: int) -> bytes:
        name = (f"{number:06}/" + "d/" * 2000 + "f").encode()
        return (
            header(b"././@LongLink", b"%011o\x00" % len(name), b"L") + padded(name) + header(b"x", b"00000000000\x00")
        )

    data = gzip.compress(b"".join(one(number) for number in range(100)) + bytes(1024), 1)

    words, mebibytes = measure(tmp_path, data, TAR_GZIP)

    assert words == "TooLarge"
    assert mebibytes < 64


def test_a_great_file_of_text_is_never_held_in_memory(tmp_path: Path) -> None:
    words, mebibytes = measure(tmp_path, ("€uro " * 1_400_000).encode(), "text/plain")

    assert words == "1 files"
    assert mebibytes < 8
