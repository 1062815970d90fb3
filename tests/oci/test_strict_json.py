"""Strict JSON: what parsers disagree on is refused, and nothing but ValueError comes out."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.oci.strict_json import parse_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"a": {"b": 1, "b": 1}}', "stands twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e400}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "5000 digits"),
        (b"\xef\xbb\xbf{}", "byte-order mark"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b"[" + b"{}," * 200_000 + b"{}]", "more than 200000"),
        (b"[" + b"1," * 100_000 + b"1]", "more than 100000 values"),
        (b"{" + b'"a":"",' * 100_000 + b"}", "more than 100000 values"),
        (b"[" * 100_000, "nested"),
        (b'{"a":' * 100_000, "nested"),
        (b"", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1,}', "not JSON"),
    ],
)
def test_what_readers_could_see_differently_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_json(data)


def test_commas_within_texts_are_no_values() -> None:
    text = ',"\\' * 120_000

    assert parse_json(json.dumps([text] * 10).encode()) == [text] * 10
    assert parse_json(json.dumps({text: 1}).encode()) == {text: 1}


@pytest.mark.parametrize("data", [b'"' + b',\\"' * 1_300_000, b'","' * 1_300_000, b'"' + b",\\" * 2_000_000])
def test_texts_that_do_not_end_are_counted_once(data: bytes) -> None:
    started = time.process_time()

    with pytest.raises(ValueError, match=r"not JSON|more than"):
        parse_json(data)

    assert time.process_time() - started < 2


@given(JSON)
def test_every_json_value_comes_through(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_json(data)
