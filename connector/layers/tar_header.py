"""One 512-byte tar header and the records of a PAX header as values. Pure.

The fields stand as POSIX.1-2001 (pax, "ustar Interchange Format") and the GNU tar manual ("Basic Tar Format") say.
"""

from msgspec import Struct

BLOCK_BYTES = 512

_POSIX_MAGIC = b"ustar\x0000"
_MAX_SIZE_BYTES = (1 << 63) - 1 - BLOCK_BYTES

# The only records that change which bytes are which file; times, owners and attributes are nothing to us.
_MEANINGFUL = ("path", "linkpath", "size")
_SPARSE = "GNU.sparse."


class BadHeader(ValueError):
    """A header that is none; the text says why."""


class Header(Struct, frozen=True):
    """What one header block says. Names are raw bytes: a PAX or GNU header may replace them."""

    name: bytes
    target: bytes
    type_flag: bytes
    size_bytes: int
    block: bytes


def parse_header(block: bytes) -> Header:
    """The header in a block that is not all zeros. Raises BadHeader for a wrong checksum and for impossible sizes."""
    check_sum(block)
    name = _until_nul(block[0:100])
    # GNU keeps times where POSIX has the first half of a long name.
    if block[257:265] == _POSIX_MAGIC and (prefix := _until_nul(block[345:500])):
        name = prefix + b"/" + name
    return Header(
        name=name,
        target=_until_nul(block[157:257]),
        type_flag=block[156:157],
        size_bytes=parse_number(block[124:136], "size"),
        block=block,
    )


def is_header(block: bytes) -> bool:
    """Whether these bytes can be the first header of an archive; what tells a plain tar from other files."""
    if len(block) < BLOCK_BYTES:
        return False
    if not any(block[:BLOCK_BYTES]):
        return True  # an archive without entries
    try:
        check_sum(block[:BLOCK_BYTES])
    except BadHeader:
        return False
    return True


def check_sum(block: bytes) -> None:
    """Raise BadHeader unless the checksum fits, counted unsigned or, as old tars did, signed."""
    stored = _octal(block[148:156], "checksum")
    unsigned = sum(block) - sum(block[148:156]) + 8 * 0x20
    if stored == unsigned:
        return
    # A signed byte is 256 less than an unsigned one from 0x80 on.
    high = sum(1 for byte in block if byte > 0x7F) - sum(1 for byte in block[148:156] if byte > 0x7F)
    if stored != unsigned - 256 * high:
        raise BadHeader(f"its checksum is {unsigned}, not {stored} as it says; it begins with {block[:8]!r}")


def parse_number(field: bytes, what: str) -> int:
    """A number of 0 to 2^63 - 513, in octal digits or in base 256 (GNU). Raises BadHeader."""
    if field[0] == 0x80:
        number = int.from_bytes(field[1:], "big")
    elif field[0] == 0xFF:
        raise BadHeader(f"its {what} is negative")
    else:
        number = _octal(field, what)
    if number > _MAX_SIZE_BYTES:
        raise BadHeader(f"its {what} is {number}")
    return number


def parse_pax_records(data: bytes) -> dict[str, bytes]:
    """The records that matter here, by key; the last of a key holds, an empty value takes it away.

    Each is '<length> <key>=<value>\\n', its length in decimal digits and counting all of it. Raises BadHeader.
    """
    records: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        # Five digits more than 1 MiB has, so that a number without end is not looked for.
        space = data.find(b" ", position, position + 12)
        digits = data[position:space] if space >= 0 else b""
        # A length that does not reach past its own digits would stand still (CVE-2019-20907).
        end = position + int(digits) if digits.isdigit() else 0
        if end <= space + 1 or end > len(data) or data[end - 1 : end] != b"\n":
            raise BadHeader(f"the record at byte {position} begins with {data[position : position + 12]!r}")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals:
            raise BadHeader(f"the record at byte {position} has no '='")
        _keep(records, key, value)
        position = end
    return records


def _keep(records: dict[str, bytes], key: bytes, value: bytes) -> None:
    name = key.decode("utf-8", "replace")
    if name not in _MEANINGFUL and not name.startswith(_SPARSE):
        return
    if not value:
        records.pop(name, None)
        return
    if b"\x00" in value:
        raise BadHeader(f"its {name} holds NUL")
    if name in (_SPARSE + "offset", _SPARSE + "numbytes"):
        # Form 0.0 repeats these two, one pair a run; form 0.1 has the same numbers in one record.
        so_far = records.get(_SPARSE + "map")
        name, value = _SPARSE + "map", value if so_far is None else so_far + b"," + value
    records[name] = value


def _octal(field: bytes, what: str) -> int:
    text = field.strip(b" \x00")
    if not text:
        return 0
    # Python's int() takes '0o7', '+7', '1_0' and negative numbers; a field holds digits of octal only.
    if text.translate(None, b"01234567"):
        raise BadHeader(f"its {what} is {field!r}")
    return int(text, 8)


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\x00")[0]
