"""Digests: what is one, what is not, and a hasher that counts."""

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.oci.digest import Hasher, algorithm_of, digest_of, parse_digest

HEX = "a" * 64


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha512:{HEX}{HEX}"])
def test_sha256_and_sha512_are_digests(text: str) -> None:
    assert parse_digest(text) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no ':'"),
        (HEX, "no ':'"),
        (f"sha256:{HEX.upper()}", "lower-case"),
        (f"sha256:{HEX}a", "64"),
        (f"sha256:{HEX[:-1]}", "64"),
        (f"sha256:{HEX}\n", "64"),
        ("sha256:../../../etc/passwd", "64"),
        (f"sha512:{HEX}", "128"),
        (f"blake3:{HEX}", "blake3"),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", "md5"),
        (f"sha256+b64u:{HEX}", "sha256+b64u"),
        (f"SHA256:{HEX}", "SHA256"),
        (f"sha256:{'٣' * 64}", "64"),
    ],
)
def test_what_is_no_digest_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("+", r"\+")):
        parse_digest(text)


@given(st.text(max_size=200))
def test_any_text_is_a_digest_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_digest(text) == text


@given(st.lists(st.binary(max_size=50), max_size=10), st.sampled_from(["sha256", "sha512"]))
def test_a_hasher_sees_the_same_bytes_however_they_are_cut(parts: list[bytes], algorithm: str) -> None:
    hasher = Hasher(algorithm)
    for part in parts:
        hasher.update(part)

    whole = b"".join(parts)
    assert hasher.digest == digest_of(whole, algorithm) == f"{algorithm}:{hashlib.new(algorithm, whole).hexdigest()}"
    assert hasher.size_bytes == len(whole)
    assert algorithm_of(hasher.digest) == algorithm
