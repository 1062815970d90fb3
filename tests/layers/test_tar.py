"""The tar reader against archives that Python's writer made, hand-made headers, and what hostile archives do."""

import io
import tarfile
import time
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connector.errors import LayerError
from connector.layers.layer import Layer
from connector.layers.limits import Budget
from connector.layers.tar import Archive, Entry, EntryKind
from tests.layers.artifacts import END, directory, hard_link, header, layer, padded, special, symbolic_link, tar

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def read(data: bytes, piece_bytes: int = 700) -> list[tuple[Entry, bytes]]:
    """Entries with content; the archive comes in small pieces, to cross every border."""
    pieces = (data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes))
    archive = Archive(Layer(0, layer(data).descriptor), pieces, Budget(10**9, 100_000))
    return [(entry, b"".join(archive.content())) for entry in archive]


def files(data: bytes) -> dict[str, bytes]:
    return {entry.name: content for entry, content in read(data)}


def error(data: bytes) -> LayerError:
    with pytest.raises(LayerError) as caught:
        read(data)
    return caught.value


def pax(records: bytes, type_flag: bytes = b"x") -> bytes:
    """A PAX header with these records."""
    return header(b"pax", b"%011o\x00" % len(records), type_flag) + padded(records)


def record(key: bytes, value: bytes) -> bytes:
    """One PAX record with its right length."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    if len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


@pytest.mark.parametrize("tar_format", FORMATS)
def test_files_of_every_format_and_size_come_out_as_they_went_in(tar_format: int) -> None:
    sizes = [0, 1, 511, 512, 513, 10_000, 300_000]
    expected = {f"dir/file-{size}": bytes(index % 251 for index in range(size)) for size in sizes}

    assert files(tar(expected, tar_format)) == expected


@pytest.mark.parametrize("tar_format", FORMATS[1:])
@pytest.mark.parametrize("name", ["x" * 101, "d/" * 200 + "file", "ü" * 300, "y" * 4000])
def test_names_longer_than_a_header_come_out_whole(name: str, tar_format: int) -> None:
    expected = {name: b"content", "next": b"more"}

    assert files(tar(expected, tar_format)) == expected


def test_a_ustar_name_is_joined_of_prefix_and_name() -> None:
    name = "a" * 90 + "/" + "b" * 90

    assert files(tar({name: b"1"}, tarfile.USTAR_FORMAT)) == {name: b"1"}


@pytest.mark.parametrize("tar_format", FORMATS[1:])
def test_links_and_directories_tell_their_kind_and_long_targets(tar_format: int) -> None:
    target = "t" * 200
    data = tar(
        [
            directory("d"),
            ("d/f", b"1"),
            hard_link("h", target),
            symbolic_link("s", "/etc/passwd"),
            special("fifo", tarfile.FIFOTYPE),
            special("dev", tarfile.CHRTYPE),
        ],
        tar_format,
    )

    kinds = [(entry.name.rstrip("/"), entry.kind, entry.target) for entry, _ in read(data)]

    assert kinds == [
        ("d", EntryKind.DIRECTORY, None),
        ("d/f", EntryKind.FILE, None),
        ("h", EntryKind.HARD_LINK, target),
        ("s", EntryKind.SYMBOLIC_LINK, None),
        ("fifo", EntryKind.DEVICE, None),
        ("dev", EntryKind.DEVICE, None),
    ]


def test_a_file_whose_name_ends_in_a_slash_is_a_directory_as_in_v7_archives() -> None:
    data = header(b"old/", b"00000000000\x00", b"\x00", magic=b"") + END

    assert [entry.kind for entry, _ in read(data)] == [EntryKind.DIRECTORY]


def test_a_link_with_a_size_has_no_content_as_gnu_tar_reads_it() -> None:
    data = header(b"link", b"00000001000\x00", b"2", b"target") + header(b"f", b"00000000001\x00") + padded(b"1") + END

    assert files(data) == {"link": b"", "f": b"1"}


def test_sizes_in_base_256_and_with_spaces_are_read() -> None:
    data = header(b"a", b"\x80" + (5).to_bytes(11, "big")) + padded(b"12345")
    data += header(b"b", b"      3 \x00") + padded(b"678") + END

    assert files(data) == {"a": b"12345", "b": b"678"}


def test_a_pax_size_overrides_the_field() -> None:
    data = pax(record(b"size", b"5")) + header(b"a", b"00000000000\x00") + padded(b"12345") + END

    assert files(data) == {"a": b"12345"}


def test_an_entry_of_a_type_nobody_knows_is_passed_over_with_its_content() -> None:
    data = header(b"volume", b"00000000003\x00", b"M") + padded(b"abc") + tar({"f": b"1"})

    assert [(entry.name, entry.kind) for entry, _ in read(data)] == [
        ("volume", EntryKind.UNKNOWN),
        ("f", EntryKind.FILE),
    ]


def test_the_comment_that_git_writes_for_all_entries_is_harmless() -> None:
    assert files(pax(record(b"comment", b"0" * 40), b"g") + tar({"f": b"1"})) == {"f": b"1"}


def test_a_global_header_that_renames_files_is_refused() -> None:
    assert "sets path for all entries" in str(error(pax(record(b"path", b"x"), b"g") + tar({"f": b"1"})))


def test_one_block_of_zeros_at_the_very_end_is_an_end() -> None:
    data = header(b"f", b"00000000001\x00") + padded(b"1")

    assert files(data + bytes(512)) == {"f": b"1"}


def test_zero_padding_after_the_end_is_passed_over() -> None:
    assert files(tar({"f": b"1"}) + bytes(100_000)) == {"f": b"1"}


def test_an_archive_cut_at_a_block_border_is_an_error() -> None:
    data = header(b"a", b"00000000001\x00") + padded(b"1")

    assert "ends after 1 entries, without the blocks of zeros" in str(error(data))


def test_an_empty_blob_is_no_archive() -> None:
    assert error(b"").reason == "BrokenArchive"


def test_every_cut_of_an_archive_is_an_error_or_costs_padding_only() -> None:
    expected = {"a": b"x" * 700, "n" * 150: b"y" * 3, "c": b""}
    data = tar(expected).rstrip(b"\x00")
    data = data + bytes(-len(data) % 512) + END

    for cut in range(len(data)):
        try:
            found = files(data[:cut])
        except LayerError:
            continue
        assert found == expected, cut
        assert cut >= len(data) - 512


def test_a_second_archive_behind_the_end_is_refused() -> None:
    assert "perhaps a second one" in str(error(tar({"a": b"1"}) + tar({"b": b"2"})))


def test_a_single_block_of_zeros_in_the_middle_is_refused() -> None:
    data = header(b"a", b"00000000000\x00")

    assert "a single block of zeros" in str(error(data + bytes(512) + data + END))


def test_a_corrupt_header_in_the_middle_is_an_error_that_counts_the_entries_before_it() -> None:
    first = header(b"a", b"00000000001\x00") + padded(b"1")
    second = bytearray(header(b"b", b"00000000001\x00"))
    second[149] ^= 1

    found = error(first + bytes(second) + padded(b"2") + END)

    assert "the header after entry 0 is none: its checksum" in str(found)
    assert "publisher" in found.remedy


@pytest.mark.parametrize(
    "size",
    [
        b"-0000000001\x00",
        b"\xff" * 12,
        b"\x80" + b"\xff" * 11,
        b"9999\x00",
        b"0x10\x00",
        b"1_0\x00",
        b"+17\x00",
        b"\xc0" + bytes(11),
        b"12\x0034\x00",
    ],
)
def test_an_impossible_size_is_an_error_at_once(size: bytes) -> None:
    assert error(header(b"a", size) + END).reason == "BrokenArchive"


def test_a_huge_size_is_believed_only_as_far_as_bytes_come() -> None:
    assert "in the middle of a file" in str(error(header(b"a", b"77777777777\x00") + bytes(4096)))


@pytest.mark.parametrize(
    "records",
    [
        b"0 path=x\n",
        b"1 path=x\n",
        b"2 \n",
        b"-5 path=x\n",
        b"999 path=x\n",
        b"10 path=xyz",
        b"9 pathx\n\n",
        b"path=x\n",
        b"11111111111111111111111111 path=x\n",
        b"8 path=x\n\x00\x00\x00",
        b"\x00" * 20,
        b" 8 path=x\n",
        b"+9 path=x\n",
        record(b"size", b"-1"),
        record(b"size", b"1" * 30),
        record(b"size", b"0x1"),
        record(b"path", b"a\x00b"),
    ],
)
def test_a_malformed_pax_header_is_an_error_and_never_a_loop(records: bytes) -> None:
    assert error(pax(records) + tar({"f": b"1"})).reason == "BrokenArchive"


@pytest.mark.parametrize("type_flag", [b"L", b"K", b"x", b"g"])
def test_a_header_over_1_mib_is_refused_before_it_is_read(type_flag: bytes) -> None:
    data = header(b"long", b"%011o\x00" % (400 << 20), type_flag)

    found = error(data + bytes(2000))

    assert found.reason == "TooLarge"
    assert str(400 << 20) in str(found)
    assert "1048576" in str(found)


def test_headers_without_end_before_one_entry_are_refused() -> None:
    assert "more than 16 headers" in str(error(pax(record(b"mtime", b"1")) * 17 + tar({"f": b"1"})))


def test_a_long_name_without_an_entry_is_an_error() -> None:
    data = header(b"././@LongLink", b"00000000002\x00", b"L") + padded(b"x\x00") + END

    assert "belongs to a next entry" in str(error(data))


def test_a_name_that_is_not_utf_8_is_an_error_that_shows_it() -> None:
    found = error(header(b"caf\xe9", b"00000000000\x00") + END)

    assert found.reason == "UnsafePath"
    assert r"b'caf\xe9'" in str(found)


def test_a_signed_checksum_as_old_tars_wrote_is_accepted() -> None:
    block = bytearray(header("é".encode(), b"00000000000\x00"))
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])
    block[148:156] = b"%06o\x00 " % signed

    assert files(bytes(block) + END) == {"é": b""}


def test_an_archive_of_50_000_entries_is_read_in_a_second_or_two() -> None:
    data = (header(b"f", b"00000000000\x00")) * 50_000 + END

    start = time.process_time()
    assert len(read(data, 1 << 18)) == 50_000

    assert time.process_time() - start < 5


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text("abü/. ", min_size=1, max_size=150), st.binary(max_size=1200)), max_size=6),
    st.sampled_from(FORMATS[1:]),
    st.integers(1, 2000),
)
def test_python_and_we_read_the_same_of_what_python_wrote(
    entries: list[tuple[str, bytes]], tar_format: int, piece_bytes: int
) -> None:
    data = tar([(name, content) for name, content in entries if name.strip("/")], tar_format)
    expected = []
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            reader = archive.extractfile(member) if member.isreg() else None
            expected.append((member.name, reader.read() if reader else b""))

    found = [(entry.name, content) for entry, content in read(data, piece_bytes)]

    assert [(name.rstrip("/"), content) for name, content in found] == [
        (name.rstrip("/"), content) for name, content in expected
    ]


@settings(max_examples=200, deadline=None)
@example(b"", b"", 0)
@example(bytes(512), b"", 0)  # one block of zeros alone
@example(bytes(512) + b"x" * 512, b"", 0)
@example(b"x" * 511, b"+0000000010\x00", 124)  # int() takes a sign
@example(b"", b"1_000000010\x00", 124)  # and underscores
@example(b"", b"\x80" + b"\xff" * 11, 124)  # a size in base 256, beyond 63 bits
@example(b"", b"\xff" * 12, 124)  # a negative one
@example(b"0 a=b\n", b"x", 156)  # a PAX record that does not move on (CVE-2019-20907)
@example(b"99999999999 a=b\n", b"x", 156)
@example(b"", b"S", 156)  # sparse, without a map
@example(b"", b"\xff\xfe", 0)  # a name that is not UTF-8
@given(st.binary(max_size=2048), st.binary(max_size=64), st.integers(0, 511))
def test_any_bytes_end_in_entries_or_a_layer_error(noise: bytes, patch: bytes, at: int) -> None:
    data = bytearray(tar({"a": b"1", "n" * 120: b"2"}))
    data[at : at + len(patch)] = patch

    for candidate in (noise, bytes(data), header(b"x", b"00000000010\x00") + noise):
        with suppress(LayerError):
            read(candidate)
