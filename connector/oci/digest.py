"""Digests as the OCI image specification defines them, and a hasher that counts. Pure.

Rules (image-spec descriptor.md, "Digests"). (1) `sha256` and `sha512` are known; every other algorithm is refused by
name, since bytes that cannot be checked may not be used. (2) The hexadecimal part is lower case and of full length, so
a digest can stand in a URL and a file name as it is.
"""

import hashlib
import re
from typing import NewType

Digest = NewType("Digest", str)

_HEX_LENGTHS = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


def parse_digest(text: str) -> Digest:
    """The text as a digest. Raises ValueError that says what is wrong; the text in it is cut to 100 characters."""
    algorithm, separator, encoded = text.partition(":")
    if not separator:
        raise ValueError(f"{text[:100]!r} is not a digest: it has no ':'")
    length = _HEX_LENGTHS.get(algorithm)
    if length is None:
        raise ValueError(f"digest algorithm {algorithm[:40]!r} is not supported; sha256 and sha512 are")
    if len(encoded) != length or not _HEX.fullmatch(encoded):
        raise ValueError(f"{text[:100]!r} is not a digest: {algorithm} takes {length} lower-case hexadecimal digits")
    return Digest(text)


def algorithm_of(digest: Digest) -> str:
    """`sha256` or `sha512`."""
    return digest.partition(":")[0]


def digest_of(data: bytes, algorithm: str = "sha256") -> Digest:
    """The digest of these bytes."""
    return Digest(f"{algorithm}:{hashlib.new(algorithm, data, usedforsecurity=True).hexdigest()}")


class Hasher:
    """Hashes and counts bytes as they pass, with the algorithm of the digest that they should have."""

    __slots__ = ("_hash", "algorithm", "size_bytes")

    def __init__(self, algorithm: str = "sha256") -> None:
        self.algorithm = algorithm
        self.size_bytes = 0
        self._hash = hashlib.new(algorithm)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Add the next bytes."""
        self._hash.update(data)
        self.size_bytes += len(data)

    @property
    def digest(self) -> Digest:
        """The digest of all bytes so far."""
        return Digest(f"{self.algorithm}:{self._hash.hexdigest()}")
