"""Sparse files as GNU tar stores them, in its four forms, and maps that lie."""

import gzip
from pathlib import Path

import pytest

from connector.layers.sparse import SparseMap, content_map_lines, read_content_map, read_gnu_map, read_pax_map
from connector.layers.tar_header import BadHeader
from tests.layers.artifacts import END, TAR, TAR_GZIP, contents, failure, header, layer, padded

ARCHIVES = Path(__file__).parent.parent / "data" / "archives"


def many() -> bytes:
    content = bytearray(39 * 32768 + 7)
    for run in range(40):
        content[run * 32768 : run * 32768 + 7] = b"run %02d\n" % run
    return bytes(content)


EXPECTED = {
    "few": b"head\n" + bytes(199_995) + b"tail\n",
    "many": many(),
    "hole": bytes(100_000),
    "plain": b"plain\n",
}


@pytest.mark.parametrize("form", ["gnu", "pax-0.0", "pax-0.1", "pax-1.0"])
def test_a_sparse_file_comes_out_with_its_holes(form: str) -> None:
    data = (ARCHIVES / f"sparse-{form}.tar.gz").read_bytes()

    assert contents(layer(data, TAR_GZIP)) == EXPECTED


@pytest.mark.parametrize("form", ["gnu", "pax-0.0", "pax-0.1", "pax-1.0"])
def test_a_sparse_file_is_judged_by_its_real_size(form: str) -> None:
    data = (ARCHIVES / f"sparse-{form}.tar.gz").read_bytes()

    error = failure(layer(data, TAR_GZIP), max_file_size=1_000_000)

    assert error.reason == "TooLarge"
    assert "entry 'many'" in str(error)
    assert "1277959" in str(error)


def sparse_header(name: bytes, real_size: int, runs: list[tuple[int, int]], stored: int) -> bytes:
    """A GNU sparse header (type S) with at most four runs."""
    block = bytearray(header(name, b"%011o\x00" % stored, b"S", magic=b"ustar  \x00"))
    for index, (offset, length) in enumerate(runs):
        at = 386 + 24 * index
        block[at : at + 24] = b"%011o\x00%011o\x00" % (offset, length)
    block[483:495] = b"%011o\x00" % real_size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\x00 " % sum(block)
    return bytes(block)


def test_holes_count_towards_what_may_come_out() -> None:
    # 20 files of 9 MB that are stored in 512 bytes each: 180 MB of zeros.
    data = b"".join(sparse_header(b"f%d" % index, 9_000_000, [], 0) for index in range(20)) + END

    error = failure(layer(data), max_file_size=10_000_000, max_total_size=1_000_000)

    assert error.reason == "TooLarge"
    assert "limits.max_total_size" in error.remedy


@pytest.mark.parametrize(
    ("real_size", "runs", "stored", "cause"),
    [
        (10, [(5, 3), (4, 1)], 4, "goes back"),
        (10, [(0, 5), (3, 5)], 10, "goes back"),
        (10, [(8, 5)], 5, "past the real size"),
        (10, [(0, 5)], 4, "but 4 are stored"),
    ],
)
def test_a_map_that_does_not_fit_its_file_is_an_error(
    real_size: int, runs: list[tuple[int, int]], stored: int, cause: str
) -> None:
    data = sparse_header(b"f", real_size, runs, stored) + padded(b"x" * stored) + END

    error = failure(layer(data, TAR))

    assert error.reason == "BrokenArchive"
    assert cause in str(error)
    assert "entry 'f'" in str(error)


def test_a_map_without_end_is_an_error() -> None:
    block = bytearray(sparse_header(b"f", 10, [], 0))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\x00 " % sum(block)
    extending = bytes(504) + b"\x01" + bytes(7)

    assert "longer than 65536 bytes" in str(failure(layer(bytes(block) + extending * 200)))


@pytest.mark.parametrize("text", [b"x\n", b"1\nx\n1\n", b"1\n-1\n1\n", b"9" * 25])
def test_a_map_in_the_content_that_holds_no_numbers_is_an_error(text: bytes) -> None:
    def read() -> SparseMap:
        assert content_map_lines(text)
        return read_content_map(text, {"GNU.sparse.realsize": b"10"}, 1)

    with pytest.raises(BadHeader):
        read()


def test_a_map_is_runs_and_the_holes_between_them() -> None:
    found = read_pax_map({"GNU.sparse.size": b"10", "GNU.sparse.map": b"2,3,8,1"}, 4)

    assert found == SparseMap(((2, 3), (8, 1)), 10)
    assert found.hole_bytes == 6


def test_an_odd_map_and_an_unknown_form_are_errors() -> None:
    with pytest.raises(BadHeader, match="offset without a length"):
        read_pax_map({"GNU.sparse.size": b"10", "GNU.sparse.map": b"2,3,8"}, 3)
    with pytest.raises(BadHeader, match="form that is not known"):
        read_pax_map({"GNU.sparse.major": b"2"}, 3)
    with pytest.raises(BadHeader, match="negative"):
        read_gnu_map([bytes(386) + b"\xff" * 24 + bytes(102)], 0)


def test_a_cut_sparse_archive_is_an_error() -> None:
    data = gzip.decompress((ARCHIVES / "sparse-pax-1.0.tar.gz").read_bytes())

    for cut in range(512, 8192, 512):
        assert failure(layer(data[:cut], TAR)).reason == "BrokenArchive"
