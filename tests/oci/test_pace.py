"""How many exchanges a host gets at once, by hosts whose answers take as long as they are described."""

from collections.abc import Callable

import pytest

from connector.oci.pace import MOST, START, Pace


def after(pace: Pace, answers: int, seconds: Callable[[int], float]) -> int:
    """The limit after so many answers, each taking what `seconds` says of the number under way; all slots taken."""
    pace.answered(seconds(1), all_taken=False)
    for _ in range(answers):
        pace.answered(seconds(pace.limit), all_taken=True)
    return pace.limit


def test_it_grows_while_the_round_trip_alone_sets_the_pace() -> None:
    assert after(Pace(), 200, lambda under_way: 0.02 + 0.0002 * under_way) == MOST


def test_it_grows_while_nobody_waits_long() -> None:
    assert after(Pace(), 200, lambda under_way: 0.001 * under_way) == MOST


def test_it_stays_where_answers_wait_for_each_other() -> None:
    assert after(Pace(), 1000, lambda under_way: 0.006 * under_way) == START


def test_it_neither_grows_nor_goes_back_between_soon_and_late() -> None:
    pace = Pace()

    limits = [after(pace, 1, lambda under_way: 0.002 * under_way) for _ in range(1000)]

    assert limits == sorted(limits)
    assert limits[-1] == 27


def test_it_goes_back_when_answers_begin_to_wait_for_each_other() -> None:
    pace = Pace()
    assert after(pace, 200, lambda under_way: 0.02) == MOST

    assert after(pace, 1000, lambda under_way: 0.02 * under_way) == START


def test_free_slots_say_nothing() -> None:
    pace = Pace()
    for _ in range(1000):
        pace.answered(0.02, all_taken=False)

    assert pace.limit == START


def test_a_host_that_was_asked_too_much_keeps_the_first_number_for_good() -> None:
    pace = Pace()
    after(pace, 200, lambda under_way: 0.02)
    pace.refused()

    assert after(pace, 1000, lambda under_way: 0.02) == START


@pytest.mark.parametrize("fixed", [1, 8, 100])
def test_a_number_that_a_user_named_is_that_number(fixed: int) -> None:
    pace = Pace(fixed)
    pace.refused()

    assert after(pace, 1000, lambda under_way: 0.02) == fixed
