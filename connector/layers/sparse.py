"""Where the stored bytes of a sparse file belong: GNU's old form and PAX forms 0.0, 0.1 and 1.0. Pure.

Rules. (1) A map is runs in rising order that do not overlap and lie within the real size; what lies between is zeros.
(2) The runs together are as long as what is stored. (3) The real size is what limits judge.
Follows the GNU tar manual, "Storing Sparse Files".
"""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from connector.layers.tar_header import BadHeader, parse_number

PAX_PREFIX = "GNU.sparse."

_GNU_RUN_BYTES = 24  # offset and length, 12 bytes each
_ZEROS = bytes(64 * 1024)


class SparseMap(Struct, frozen=True):
    """Runs of (offset, length) and the size of the file with its holes."""

    runs: tuple[tuple[int, int], ...]
    real_size: int

    @property
    def hole_bytes(self) -> int:
        """How many zeros come out that were not stored."""
        return self.real_size - sum(length for _, length in self.runs)


def read_gnu_map(blocks: Sequence[bytes], stored_size: int) -> SparseMap:
    """The map of a header of type S, and of the blocks that extend it. Raises BadHeader."""
    header, *more = blocks
    fields = [header[386 + at : 386 + at + _GNU_RUN_BYTES] for at in range(0, 96, _GNU_RUN_BYTES)]
    for block in more:
        fields += [block[at : at + _GNU_RUN_BYTES] for at in range(0, 504, _GNU_RUN_BYTES)]
    numbers: list[int] = []
    for field in fields:
        if not field.strip(b" \x00"):
            break
        numbers += [parse_number(field[:12], "sparse offset"), parse_number(field[12:], "sparse length")]
    return _checked(numbers, parse_number(header[483:495], "real size"), stored_size)


def is_extended(block: bytes, *, first: bool) -> bool:
    """Whether one more block of a GNU sparse map follows the header (`first`), or an extending block."""
    return block[482 if first else 504] != 0


def read_pax_map(records: Mapping[str, bytes], stored_size: int) -> SparseMap:
    """The map of forms 0.0 and 0.1, which stands in the PAX header. Raises BadHeader."""
    if PAX_PREFIX + "size" not in records:
        raise BadHeader("it is sparse, in a form that is not known")
    text = records.get(PAX_PREFIX + "map", b"")
    numbers = [_decimal(number) for number in text.split(b",")] if text else []
    return _checked(numbers, _decimal(records[PAX_PREFIX + "size"]), stored_size)


def is_map_in_content(records: Mapping[str, bytes]) -> bool:
    """Whether the map stands before the content, as form 1.0 has it."""
    return records.get(PAX_PREFIX + "major") == b"1" and records.get(PAX_PREFIX + "minor") == b"0"


def content_map_lines(first_block: bytes) -> int:
    """How many lines a map of form 1.0 has that begins with this block. Raises BadHeader."""
    count, newline, _ = first_block.partition(b"\n")
    if not newline:
        raise BadHeader("its sparse map does not begin with a count")
    return 2 * _decimal(count) + 1


def read_content_map(text: bytes, records: Mapping[str, bytes], stored_size: int) -> SparseMap:
    """The map of form 1.0: a count, then offset and length for each run, a number a line. Raises BadHeader."""
    count, *lines = text.split(b"\n")
    numbers = [_decimal(line) for line in lines[: 2 * _decimal(count)]]
    return _checked(numbers, _decimal(records.get(PAX_PREFIX + "realsize", b"")), stored_size)


def zeros(count: int) -> Iterator[bytes]:
    """A hole, in pieces."""
    while count > 0:
        yield _ZEROS[:count]
        count -= len(_ZEROS)


def _checked(numbers: Sequence[int], real_size: int, stored_size: int) -> SparseMap:
    if len(numbers) % 2:
        raise BadHeader("its sparse map has an offset without a length")
    runs = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    end = 0
    for offset, length in runs:
        if offset < end:
            raise BadHeader(f"its sparse map goes back from {end} to {offset}")
        end = offset + length
    if end > real_size:
        raise BadHeader(f"its sparse map reaches {end}, past the real size {real_size}")
    stored_by_map = sum(length for _, length in runs)
    if stored_by_map != stored_size:
        raise BadHeader(f"its sparse map holds {stored_by_map} bytes, but {stored_size} are stored")
    return SparseMap(runs, real_size)


def _decimal(text: bytes) -> int:
    if not (text.isdigit() and len(text) < 19):
        raise BadHeader(f"its sparse map holds {text[:20]!r} where a number should stand")
    return int(text)
