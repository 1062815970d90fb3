from datetime import timedelta

from connector.source.tasks.generate import Fields, build

EVERY_30 = build(Fields(name="tick", interval=timedelta(seconds=30)))


def test_a_tick_starts_on_the_beat_whatever_the_last_one_took() -> None:
    assert EVERY_30.wait_seconds(0.5, 2) == 28
    assert EVERY_30.wait_seconds(0.5, 0) == 30


def test_beats_that_a_long_tick_missed_are_left_out() -> None:
    assert EVERY_30.wait_seconds(0.5, 65) == 25


def test_jitter_is_added_up_to_its_bound() -> None:
    schedule = build(Fields(name="tick", interval=timedelta(seconds=30), jitter=timedelta(seconds=6)))

    assert schedule.wait_seconds(0.0, 0) == 30
    assert schedule.wait_seconds(0.5, 0) == 33
