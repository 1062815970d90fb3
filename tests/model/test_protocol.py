"""The protocol is checked in every order of events; each guard is shown to be needed by taking it away."""

from dataclasses import replace

import pytest

from connector.kafka.membership import TRANSITIONS, Event, State
from tests.model.explore import explore, told
from tests.model.protocol import Rules, World, steps


# Marked `system` not for their servers but for their seconds: `make test` runs them, `make check` need not wait.
@pytest.mark.system
def test_no_order_of_events_breaks_a_promise_and_every_world_can_settle() -> None:
    explored = explore(Rules())

    print(f"{explored.worlds} worlds, {explored.events} events")
    assert explored.harm == "", told(explored.way)
    assert explored.stuck == 0
    assert explored.worlds > 100_000


@pytest.mark.parametrize(
    ("taken_away", "harm"),
    [
        pytest.param(Rules(generation_fence=False), "committed twice", marks=pytest.mark.system),
        pytest.param(Rules(generation_fence=False), "older release follows", marks=pytest.mark.system),
        (Rules(one_producer_a_pull=False), "without its offset"),
        (Rules(read_back=False), "committed twice"),
        (Rules(restore_when_unsettled=False), "committed twice"),
        (Rules(init_on_takeover=False, restore_to_high_watermark=False), "restored state is not"),
    ],
    ids=[
        "no fence: a release twice", "no fence: an older release", "a producer used again", "no reading back",
        "going on after a commit that nobody could settle", "a restore that overlooks an open transaction",
    ],
)  # fmt: skip
def test_without_the_guard_there_is_a_way_to_harm(taken_away: Rules, harm: str) -> None:
    explored = explore(taken_away, looking_for=harm)

    assert harm in explored.harm
    print(told(explored.way))


@pytest.mark.parametrize("row", list(TRANSITIONS), ids=lambda row: f"{row[0]} {row[1]}")
def test_the_table_that_is_checked_is_the_table_that_runs_and_every_row_of_it_happens(
    row: tuple[State, Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(TRANSITIONS, row)

    with pytest.raises(ValueError, match=f"is {row[0]} cannot be {row[1]}"):
        explore(Rules())


def test_a_worker_restores_before_it_ticks_in_every_world_near_the_start() -> None:
    near, seen = [World()], {World()}
    for _ in range(9):
        near = [after for world in near for _, after in steps(world, Rules()) if after not in seen]
        seen.update(near)
        for world in near:
            for worker in world.workers:
                assert worker.state is not State.RUNNING or worker.memory == world.committed[0]


@pytest.mark.system
@pytest.mark.parametrize("guard", ["init_on_takeover", "restore_to_high_watermark"])
def test_of_the_two_guards_of_a_restore_either_is_enough(guard: str) -> None:
    """Initialising aborts what is open; reading to the high watermark waits for it. The code does both."""
    explored = explore(replace(Rules(), **{guard: False}))

    assert explored.harm == "", told(explored.way)
