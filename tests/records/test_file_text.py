"""Long contents become text in pieces: the same bytes as at once, of a length that is known before."""

import base64
import json
import tracemalloc
from io import BytesIO

import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.records.encoder import FormatName, build_format
from connector.records.file_text import file_text
from connector.records.schemas import schema_text
from tests.records.samples import FORMATS, file

MIB = 1 << 20
SEEDS = st.text(max_size=60).map(str.encode) | st.binary(max_size=40)
# Long enough that the seed lies across the borders of pieces.
CONTENTS = st.tuples(SEEDS, st.integers(1, 4000)).map(lambda seed: seed[0] * seed[1])


def at_once(content: bytes) -> str:
    """The text as Python makes it."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(content).decode()


@settings(max_examples=200, deadline=None)
@given(CONTENTS)
def test_a_content_is_the_same_text_in_pieces_as_at_once(content: bytes) -> None:
    text, expected = file_text(content), at_once(content)

    assert b"".join(text.pieces()) == expected.encode()
    assert b"".join(text.json_pieces()) == json.dumps(expected, ensure_ascii=False)[1:-1].encode()
    assert text.size_bytes == len(expected.encode())


@settings(max_examples=100, deadline=None)
@given(CONTENTS)
def test_the_avro_of_a_content_is_what_an_avro_library_writes(content: bytes) -> None:
    expected = BytesIO()
    sent = file(content)
    fields = {"path": sent.path, "content": at_once(content), "digest": sent.digest}
    schemaless_writer(
        expected,
        parse_schema(json.loads(schema_text("oci-file-value"))),
        {**fields, "artifact_digest": sent.pull.artifact_digest},
    )

    value = build_format("avro").encode(sent, 7).value

    assert value == b"\0\0\0\0\x07" + expected.getvalue()


@settings(max_examples=200, deadline=None)
@given(CONTENTS | st.none(), st.sampled_from(FORMATS))
def test_the_length_of_a_value_is_known_before_it_is_made(content: bytes | None, name: FormatName) -> None:
    form = build_format(name)

    measured, encoded = form.measure(file(content)), form.encode(file(content), 7)
    assert (measured.value_bytes, measured.headers) == (len(encoded.value or b""), encoded.headers)


WIDE = "\N{PARTY POPPER}".encode()
HOSTILE = {
    "control characters": b"\x01" * 2 * MIB,
    "control characters and a wide one": WIDE + b"\x01" * 2 * MIB,
    "a wide character in plain text": WIDE + b"a" * 2 * MIB,
    "quotes": b'"' * 2 * MIB,
    "no text": b"\xff" * 2 * MIB,
    "no text at its very end": b"a" * 2 * MIB + b"\xff",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", FORMATS)
def test_making_a_value_takes_the_value_and_two_mebibytes(name: FormatName, content: bytes) -> None:
    form, sent = build_format(name), file(content)
    form.encode(file(b"x"), 7)  # schemas are read once

    tracemalloc.start()
    try:
        size = form.measure(sent).value_bytes
        measured = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        value = form.encode(sent, 7).value
        made = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(value or b"") == size
    assert measured < 2 * MIB
    # An eighth more than the value: what Python adds to a buffer that grows, and what is never written to.
    assert made < (0 if name == "raw" else size * 9 / 8) + 2 * MIB
