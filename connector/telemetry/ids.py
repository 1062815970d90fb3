"""The ids that tie a tick's records, lines and traces together: made of given time and random bytes. Pure."""


def uuid7(unix_ms: int, random: bytes) -> str:
    """A UUIDv7 (RFC 9562, section 5.7) of a time in milliseconds and ten random bytes; sorts by time as text."""
    tail = int.from_bytes(random[:10], "big")
    value = (unix_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | (tail >> 62 & 0xFFF) << 64 | 0b10 << 62 | tail & (1 << 62) - 1
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def traceparent(random: bytes) -> str:
    """A sampled W3C trace-context header of 24 random bytes: trace id and span id, neither of them all zero."""
    trace, span = int.from_bytes(random[:16], "big") or 1, int.from_bytes(random[16:24], "big") or 1
    return f"00-{trace:032x}-{span:016x}-01"
