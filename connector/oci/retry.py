"""Transient or permanent, and how long to wait. Pure.

Rules. (1) A status means one reason, whatever registry says it; the table is below. (2) Within a tick only transient
errors are tried again; bytes that do not match their digest once, everything else up to the policy's attempts. (3) What
`Retry-After` says is obeyed in all its forms, within bounds, and holds that host only.
"""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from msgspec import Struct

from connector.errors import IntegrityError, OciSyncError

_FLOOR_SECONDS = 1.0  # GHCR says 880µs; asking that soon again is what it complains of
_CEILING_SECONDS = 300.0  # an absurd 10^9 must not stop a source for years; the next tick asks anew
LONGEST_HOLD_SECONDS = 30.0  # a request waits that long for a host that asked for rest; then it is the next tick's turn
_LONGEST_BACKOFF_SECONDS = 60.0
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ns|us|µs|μs|ms|s|m|h)")


class RetryPolicy(Struct, frozen=True):
    """How often to try within one tick, and how long to wait before the second attempt; it doubles up to a minute."""

    max_attempts: int = 10
    initial_backoff: timedelta = timedelta(seconds=1)


class Verdict(Struct, frozen=True):
    """What a status means: the reason, whether trying again can help, and what to do about it."""

    reason: str
    transient: bool
    remedy: str


_VERDICTS = {
    401: Verdict("Unauthorized", False, "check the entry for this registry in credentials_path (operator)"),
    403: Verdict(
        "Forbidden", False, "it is denied or does not exist: check the name, and what this account may pull (operator)"
    ),
    404: Verdict(
        "NotFound", False, "it is denied or does not exist: check the reference and the credentials (operator)"
    ),
    408: Verdict("ServerFailure", True, "it is tried again; if it stays, ask who runs the registry"),
    425: Verdict("ServerFailure", True, "it is tried again"),
    429: Verdict("RateLimited", True, "ask less often, or log in with an account of a higher limit (operator)"),
    499: Verdict("ServerFailure", True, "it is tried again; if it stays, ask who runs the registry"),
}
_SERVER = Verdict("ServerFailure", True, "it is tried again; if it stays, ask who runs the registry")
_REFUSED = Verdict("RequestRefused", False, "check the reference; if it is right, ask who runs the registry")
_STRANGE = Verdict("NotARegistry", True, "check the address, and for a proxy or a login page in between (operator)")


def verdict_of(status: int) -> Verdict:
    """What a status that is no success means."""
    if status in _VERDICTS:
        return _VERDICTS[status]
    if status >= 500:
        return _SERVER
    return _REFUSED if status >= 400 else _STRANGE


def parse_retry_after(text: str, now: datetime) -> float | None:
    """Seconds to wait, between 1 and 300; None where the text says nothing that can be understood.

    Takes seconds (with a fraction too), an HTTP date, and durations such as `880µs`, `1m30s`; of GHCR's
    `880µs, allowed 44000/minute` the first part.
    """
    text = text.partition(",")[0].strip() if not _looks_like_date(text) else text.strip()
    if not text or len(text) > 64:
        return None
    seconds = _seconds(text)
    if seconds is None and _looks_like_date(text):
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, IndexError, OverflowError):
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    if seconds is None:
        return None
    return min(max(seconds, _FLOOR_SECONDS), _CEILING_SECONDS)


def backoff_seconds(policy: RetryPolicy, attempt: int, luck: float, retry_after: float | None) -> float:
    """Seconds before the attempt after this one (the first attempt is 1).

    `luck` in 0..1 spreads workers that failed together over half of the time. A server's word is the least.
    """
    full = min(policy.initial_backoff.total_seconds() * 2.0 ** min(attempt - 1, 20), _LONGEST_BACKOFF_SECONDS)
    return max(full * (0.5 + luck / 2), retry_after or 0.0)


def is_worth_another(error: OciSyncError, attempt: int, policy: RetryPolicy) -> bool:
    """Whether to try again after this error, which ended that attempt (the first is 1)."""
    if not error.transient or attempt >= policy.max_attempts or (error.retry_after or 0.0) > LONGEST_HOLD_SECONDS:
        return False
    return attempt < 2 or not isinstance(error, IntegrityError)


class RateLimit(Struct, frozen=True):
    """What a registry says is left of its limit: requests, in a window of seconds (0 where it says none)."""

    limit: int | None
    remaining: int | None
    window_seconds: int = 0


def parse_rate_limit(limit: str, remaining: str) -> RateLimit | None:
    """Docker Hub's `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 76;w=21600`; None where both are absent."""
    if not limit and not remaining:  # of nearly every registry, and for every blob
        return None
    most, window = _count_and_window(limit)
    left, other_window = _count_and_window(remaining)
    return None if most is None and left is None else RateLimit(most, left, window or other_window)


def _count_and_window(text: str) -> tuple[int | None, int]:
    match = re.fullmatch(r"\s*(\d{1,9})\s*(?:;\s*w=(\d{1,9}))?\s*", text, re.ASCII)
    return (int(match[1]), int(match[2] or 0)) if match else (None, 0)


def _seconds(text: str) -> float | None:
    if re.fullmatch(r"-?\d{1,12}(\.\d{1,9})?", text, re.ASCII):
        return float(text)
    position, total = 0, 0.0
    while match := _DURATION.match(text, position):
        total += float(match[1]) * _UNITS[match[2]]
        position = match.end()
    return total if position == len(text) else None


def _looks_like_date(text: str) -> bool:
    return text.strip()[:3].lower() in {"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
