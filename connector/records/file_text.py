"""A file's content as the text that a record holds: UTF-8 as it is, else base64 (RFC 4648, section 4). Pure.

Nothing here is ever as large as the content: Python takes four bytes for every character of a text that holds one
beyond U+FFFF, and JSON six for every control character, so ten megabytes made at once took 500. Everything comes in
pieces, and its length is known before.
"""

import codecs
from binascii import b2a_base64
from collections.abc import Iterator

from msgspec import Struct
from orjson import dumps

# orjson asks for eight bytes a character before it writes, and the allocator answers from 128 KiB on with fresh pages
# (see `allocator.py`), so a piece stays below. A multiple of 3, so that base64 pads the last piece only.
_PIECE_BYTES = 3 * 4096


class FileText(Struct, frozen=True):
    """One content as text. `is_base64` where it is not UTF-8."""

    content: bytes
    is_base64: bool

    @property
    def size_bytes(self) -> int:
        """How long the text is in UTF-8."""
        return (len(self.content) + 2) // 3 * 4 if self.is_base64 else len(self.content)

    @property
    def json_size_bytes(self) -> int:
        """How long it is within a JSON string."""
        return self.size_bytes if self.is_base64 else sum(map(len, self.json_pieces()))

    def pieces(self) -> Iterator[bytes]:
        """The text in UTF-8."""
        pieces = _cut(self.content)
        return (b2a_base64(piece, newline=False) for piece in pieces) if self.is_base64 else pieces

    def json_pieces(self) -> Iterator[bytes]:
        """What stands between the quotes of a JSON string, non-ASCII as it is."""
        if self.is_base64:
            return self.pieces()
        return (dumps(text)[1:-1] for text in _decoded(self.content))


def file_text(content: bytes) -> FileText:
    """The content as text."""
    if content.isascii():
        return FileText(content, is_base64=False)
    try:
        for _ in _decoded(content):
            pass
    except UnicodeDecodeError:
        return FileText(content, is_base64=True)
    return FileText(content, is_base64=False)


def _cut(content: bytes) -> Iterator[bytes]:
    return (content[start : start + _PIECE_BYTES] for start in range(0, len(content), _PIECE_BYTES))


def _decoded(content: bytes) -> Iterator[str]:
    """The text, cut between characters. Raises UnicodeDecodeError."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for piece in _cut(content):
        yield decoder.decode(piece)
    decoder.decode(b"", final=True)
