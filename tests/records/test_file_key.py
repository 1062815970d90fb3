"""The key of a file: frozen bytes in each key format, and no key is taken for another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.records.file_key import KeyFormat, decode_file_key, encode_file_key
from tests.records.samples import KEY_FORMATS

ARTIFACT = "registry.example.com/org/flows:prod"


@pytest.mark.parametrize(
    ("key_format", "key"),
    [
        ("string", 'registry.example.com/org/flows:prod#flows/ü "a".yaml'.encode()),
        ("json", '{"artifact":"registry.example.com/org/flows:prod","path":"flows/ü \\"a\\".yaml"}'.encode()),
        ("avro", b"\x00\x00\x00\x01\x02\x46registry.example.com/org/flows:prod\x22" + 'flows/ü "a".yaml'.encode()),
    ],
)
def test_the_bytes_of_a_key_never_change(key_format: KeyFormat, key: bytes) -> None:
    assert encode_file_key(key_format, ARTIFACT, 'flows/ü "a".yaml', 258) == key


@given(path=st.text(st.characters(exclude_categories=["Cs"]), max_size=60), number=st.integers(0, 2**31 - 1))
def test_every_key_comes_back_whatever_its_format(path: str, number: int) -> None:
    for key_format in KEY_FORMATS:
        assert decode_file_key(encode_file_key(key_format, ARTIFACT, path, number)) == (ARTIFACT, path)


@pytest.mark.parametrize(
    "key",
    [
        b"", b"no separator", b"\xff#a", b"{", b"{}", b"[" * 50_000, b"{" * 50_000, b'{"a":' * 50_000,
        b'{"artifact":1,"path":2}', b'{"artifact":"a","path":"b","c":1}', b'{"path":"b","artifact":"a"}',
        b'{"artifact": "a", "path": "b"}', b'{"artifact":"a","path":"\\ud800"}', b"{\xff}",
        b"\0", b"\0\0\0\0\1", b"\0\0\0\0\1\2a", b"\0\0\0\0\1\2a\2bX", b"\0\0\0\0\1\x01\x01",
    ],
)  # fmt: skip
def test_bytes_that_no_key_format_writes_are_refused(key: bytes) -> None:
    with pytest.raises(ValueError):
        decode_file_key(key)


@given(st.binary(max_size=60))
def test_what_is_read_is_exactly_what_would_be_written(key: bytes) -> None:
    for prefix in (b"", b"\0\0\0\0\1", b"{"):
        try:
            artifact, path = decode_file_key(prefix + key)
        except ValueError:
            continue
        assert prefix + key in {
            encode_file_key(key_format, artifact, path, int.from_bytes((prefix + key)[1:5], "big"))
            for key_format in KEY_FORMATS
        }
