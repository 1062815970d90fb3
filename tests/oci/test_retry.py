"""Transient or permanent, and how long to wait."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connector.errors import IntegrityError, RegistryError
from connector.oci.retry import (
    RateLimit,
    RetryPolicy,
    backoff_seconds,
    is_worth_another,
    parse_rate_limit,
    parse_retry_after,
    verdict_of,
)

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
POLICY = RetryPolicy(4, timedelta(seconds=1))


def registry_error(*, retry_after: float | None = None) -> RegistryError:
    return RegistryError(reason="ServerFailure", doing="d", cause="c", remedy="r", retry_after=retry_after)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5),
        ("0", 1),
        ("-3", 1),
        ("1.5", 1.5),
        ("1000000000", 300),
        ("120", 120),
        ("880µs", 1),
        ("880us", 1),
        ("2s", 2),
        ("1m30s", 90),
        ("2h", 300),
        ("880µs, allowed 44000/minute", 1),
        ("15, 20", 15),
        ("Sun, 01 Nov 2026 12:00:30 GMT", 30),
        ("Sun, 01 Nov 2026 11:00:00 GMT", 1),
        ("Sun, 01 Nov 2126 12:00:00 GMT", 300),
    ],
)
def test_retry_after_is_understood_in_all_its_forms_and_clamped(text: str, seconds: float) -> None:
    assert parse_retry_after(text, NOW) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1e9", "NaN", "5x", "Sun, 99 Nov", "٥", "9" * 100, "Sunday"])
def test_retry_after_that_says_nothing_is_nothing(text: str) -> None:
    assert parse_retry_after(text, NOW) is None


@example("880µs, allowed 44000/minute")
@example("880\u03bcs")  # the Greek letter, where servers mean the sign
@example("\u0663")  # a digit, but not of ASCII
@example("\u0663s")
@example("Mon,")
@example("Mon, 01 Jan 0001 00:00:00 +9999")
@example("Fri, 31 Dec 9999 23:59:59 -9999")
@example("Sun, 31 Feb 2026 25:61:61 GMT")
@example("Sun Nov  1 12:00:05 2026")
@example("-0")
@example("999999999999.999999999")
@example("1h" * 32)
@given(st.text(max_size=40) | st.from_regex(r"[0-9.]{0,9}(ms|s|m|h)?", fullmatch=True))
def test_any_retry_after_is_within_bounds(text: str) -> None:
    seconds = parse_retry_after(text, NOW)

    assert seconds is None or 1 <= seconds <= 300


@pytest.mark.parametrize(
    ("status", "reason", "transient"),
    [
        (400, "RequestRefused", False),
        (401, "Unauthorized", False),
        (403, "Forbidden", False),
        (404, "NotFound", False),
        (408, "ServerFailure", True),
        (429, "RateLimited", True),
        (500, "ServerFailure", True),
        (503, "ServerFailure", True),
        (522, "ServerFailure", True),
        (204, "NotARegistry", True),
        (206, "NotARegistry", True),
        (304, "NotARegistry", True),
    ],
)
def test_a_status_has_one_meaning(status: int, reason: str, transient: bool) -> None:
    verdict = verdict_of(status)

    assert (verdict.reason, verdict.transient) == (reason, transient)
    assert verdict.remedy


def test_backoff_doubles_up_to_a_minute_and_obeys_the_server() -> None:
    waits = [backoff_seconds(POLICY, attempt, 1.0, None) for attempt in (1, 2, 3, 10, 1000)]

    assert waits == [1, 2, 4, 60, 60]
    assert backoff_seconds(POLICY, 1, 0.0, None) == 0.5
    assert backoff_seconds(POLICY, 1, 0.5, 20.0) == 20


def test_transient_errors_are_tried_up_to_the_policys_attempts() -> None:
    assert [is_worth_another(registry_error(), attempt, POLICY) for attempt in (1, 3, 4)] == [True, True, False]


def test_wrong_bytes_are_asked_for_once_more() -> None:
    error = IntegrityError(reason="DigestMismatch", doing="d", cause="c", remedy="r")

    assert [is_worth_another(error, attempt, POLICY) for attempt in (1, 2)] == [True, False]


def test_a_long_rest_is_left_to_the_next_tick() -> None:
    assert is_worth_another(registry_error(retry_after=30), 1, POLICY)
    assert not is_worth_another(registry_error(retry_after=31), 1, POLICY)


@pytest.mark.parametrize(
    ("limit", "remaining", "expected"),
    [
        ("100;w=21600", "76;w=21600", RateLimit(100, 76, 21600)),
        ("", "5", RateLimit(None, 5)),
        ("", "", None),
        ("many", "-1", None),
    ],
)
def test_rate_limit_headers_are_read(limit: str, remaining: str, expected: RateLimit | None) -> None:
    assert parse_rate_limit(limit, remaining) == expected
