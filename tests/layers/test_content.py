"""Where contents lie, and how they are read: by many threads, from any kind of spool, and when the disk fails."""

import io
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.errors import LayerError
from connector.layers.content import TextCheck
from connector.layers.extract import ExtractOptions, extract
from tests.layers.artifacts import (
    BuiltLayer,
    MemoryBlob,
    archive_layer,
    layer,
)

YAML = "application/yaml"


def raw(title: str | None, data: bytes = b"text", media_type: str = YAML) -> BuiltLayer:
    return layer(data, media_type, title=title)


@pytest.mark.parametrize(
    "new_spool", [tempfile.TemporaryFile, io.BytesIO, partial(tempfile.SpooledTemporaryFile, max_size=1 << 30)]
)
def test_contents_are_read_from_many_threads_at_once(new_spool: Callable[[], BinaryIO]) -> None:
    expected = {f"f{number}": b"%d" % number * 5000 for number in range(50)}
    built = archive_layer(expected)

    with new_spool() as spool, ThreadPoolExecutor(8) as threads:
        files = extract([built.descriptor], {built.descriptor.digest: built.blob}, ExtractOptions(), spool)
        for _ in range(3):
            assert dict(threads.map(lambda file: (file.path, file.content.read()), files)) == expected


def test_a_spool_is_appended_to_and_what_stood_there_stays() -> None:
    built = archive_layer({"a": b"new"})
    spool = io.BytesIO(b"before")

    (file,) = extract([built.descriptor], {built.descriptor.digest: built.blob}, ExtractOptions(), spool)

    assert file.content.read() == b"new"
    assert spool.getvalue() == b"beforenew"


def test_a_spool_that_fails_is_a_transient_error_that_names_the_layer() -> None:
    class FullDisk(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    built = archive_layer({"a": b"1"})

    with pytest.raises(LayerError, match="No space left on device") as caught:
        extract([built.descriptor], {built.descriptor.digest: built.blob}, ExtractOptions(), FullDisk())

    assert (caught.value.reason, caught.value.transient) == ("SpoolFailed", True)


def test_a_blob_that_changed_since_it_was_verified_is_an_error() -> None:
    built = raw("a", b"1234")
    (file,) = extract(
        [built.descriptor], {built.descriptor.digest: MemoryBlob(b"1234", [])}, ExtractOptions(), io.BytesIO()
    )
    assert file.content.read() == b"1234"

    with pytest.raises(LayerError, match="3 bytes were read back where 4"):
        extract([built.descriptor], {built.descriptor.digest: MemoryBlob(b"123", [])}, ExtractOptions(), io.BytesIO())


def first_byte_that_is_not_text(data: bytes) -> int | None:
    """As Python says it of the whole."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return None


# Characters, halves of characters and what is neither, so that a piece may end in the middle of one.
PIECES = st.lists(
    st.sampled_from([b"", b"a", b"line\n", b"\xc3", b"\xa9", "\u20ac".encode(), b"\xe2\x82", b"\xac", b"\xff"])
)


@given(PIECES)
def test_pieces_are_text_where_the_whole_is_text(pieces: list[bytes]) -> None:
    check = TextCheck()
    for piece in pieces:
        check.update(piece)

    assert check.finish() == first_byte_that_is_not_text(b"".join(pieces))
