import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.errors import OutputError
from connector.kafka.membership import TRANSITIONS, Event, Membership, State, fence, read_membership, step

MEMBER = Membership(generation=3, member_id="m-1", partitions=frozenset({1, 2}), metadata=b"proof")


def metadata(generation: int, member: bytes) -> bytes:
    return b"CGMDv2:" + generation.to_bytes(4, "little", signed=True) + b"group\0" + member + b"\0\x01"


def test_the_group_metadata_of_librdkafka_gives_generation_and_member() -> None:
    membership = read_membership(metadata(7, b"member-a"), {0, 4})

    assert (membership.generation, membership.member_id) == (7, "member-a")
    assert membership.partitions == {0, 4}


@pytest.mark.parametrize("garbage", [b"", b"CGMDv3:aaaa", b"CGMDv2:\0\0\0\0group", b"nonsense"])
def test_metadata_of_an_unknown_layout_proves_nothing(garbage: bytes) -> None:
    with pytest.raises(OutputError) as caught:
        read_membership(garbage, set())

    assert caught.value.reason == "NotOwner"


def test_a_fence_holds_the_offsets_and_the_proof_of_the_membership() -> None:
    made = fence(MEMBER, "offsets", {2: 40})

    assert made.offsets == (("offsets", 2, 40),)
    assert made.metadata == b"proof"


@pytest.mark.parametrize(
    ("membership", "positions"),
    [
        (MEMBER, {}),
        (Membership(-1, "", frozenset({1}), b""), {1: 0}),
        (Membership(-1, "m-1", frozenset({1}), b""), {1: 0}),
        (Membership(4, "", frozenset({1}), b""), {1: 0}),
        (MEMBER, {5: 0}),
        (MEMBER, {1: 0, 5: 0}),
    ],
    ids=["no offset", "never joined", "generation lost", "member lost", "foreign partition", "one of two foreign"],
)
def test_a_commit_that_the_broker_would_take_unfenced_is_refused(
    membership: Membership, positions: dict[int, int]
) -> None:
    with pytest.raises(OutputError) as caught:
        fence(membership, "offsets", positions)

    assert caught.value.reason == "NotOwner"


@given(st.lists(st.sampled_from(list(Event)), max_size=30))
def test_no_order_of_events_makes_a_partition_run_without_a_restore_since_it_was_assigned(events: list[Event]) -> None:
    state = State.UNASSIGNED
    restored = False
    for event in events:
        try:
            state = step(state, event)
        except ValueError:
            continue
        if event is Event.RESTORED:
            restored = True
        elif event in (Event.ASSIGNED, Event.FENCED, Event.REVOKED, Event.LOST):
            restored = False
        assert state is not State.RUNNING or restored


def test_an_event_that_cannot_happen_says_so_and_changes_nothing() -> None:
    impossible = [(state, event) for state in State for event in Event if (state, event) not in TRANSITIONS]

    for state, event in impossible:
        with pytest.raises(ValueError, match=f"{state} cannot be {event}"):
            step(state, event)
