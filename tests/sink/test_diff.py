"""What a snapshot asks of a store."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connector.errors import SinkError
from connector.records.file_record import Snapshot
from connector.sink.parts import Parts
from connector.sink.store import Diff, Entry
from connector.sink.tasks import diff
from connector.sink.tasks.diff import Differ
from tests.sink.memory_store import pull

FLOWS = {"match": r"\.ya?ml$", "key": "flows.{{ (content | from_yaml).flow.name }}"}
PATHS = {"match": ".", "key": "files.{{ path }}"}


def _differ(*routes: dict[str, str], owns: tuple[str, ...] = ("flows.", "files."), **fields: object) -> Differ:
    return diff.build(diff.Fields.model_validate({"name": "d", "owns": owns, "routes": routes, **fields}), Parts("f"))


def _snapshot(files: dict[str, str], **facts: str) -> Snapshot:
    records = pull("1", files, **facts)
    return Snapshot(records[0].pull if records else pull("1", {}, ["x"])[0].pull, tuple(records))


def _compare(differ: Differ, files: dict[str, str], held: dict[str, bytes], *, all_known: bool = True) -> Diff:
    entries = {key: Entry(value, 1) for key, value in held.items()}
    return differ.compare(differ.desired([_snapshot(files)]), entries, all_known=all_known)


def test_the_first_route_that_matches_gives_the_key() -> None:
    desired = _differ(FLOWS, PATHS).desired([_snapshot({"a.yaml": "flow: {name: one}", "b.txt": "x"})])

    assert desired.values == {"flows.one": b"flow: {name: one}", "files.b.txt": b"x"}


def test_a_file_that_no_route_takes_is_counted_and_left_out() -> None:
    desired = _differ(FLOWS).desired([_snapshot({"a.yaml": "flow: {name: one}", "README.md": "x"})])

    assert (set(desired.values), desired.unmatched) == ({"flows.one"}, 1)


def test_only_what_differs_is_put_and_only_what_is_owned_is_deleted() -> None:
    held = {"files.same": b"1", "files.old": b"1", "files.changed": b"1", "other.x": b"1"}

    made = _compare(_differ(PATHS), {"same": "1", "changed": "2", "new": "3"}, held)

    assert (made.puts, made.deletes, made.unchanged) == (
        {"files.changed": b"2", "files.new": b"3"},
        ("files.old",),
        1,
    )
    assert made.replaced == {"files.changed": Entry(b"1", 1), "files.old": Entry(b"1", 1)}


def test_two_files_with_one_key_are_an_error_that_names_both() -> None:
    with pytest.raises(SinkError, match=r"'b\.yaml'.*'a\.yaml'") as caught:
        _differ(FLOWS).desired([_snapshot({"a.yaml": "flow: {name: x}", "b.yaml": "flow: {name: x}"})])

    assert caught.value.reason == "DuplicateKey"


def test_a_key_outside_of_what_is_owned_is_an_error() -> None:
    with pytest.raises(SinkError, match="outside of what the flow owns") as caught:
        _differ(PATHS, owns=("flows.",)).desired([_snapshot({"a": "1"})])

    assert caught.value.reason == "KeyInvalid"


@pytest.mark.parametrize("content", ["no mapping", "flow: {}", "flow: [", "", "&a [*a]"])
def test_a_file_that_has_no_key_in_it_is_an_error_that_names_it(content: str) -> None:
    with pytest.raises(SinkError, match=r"making the key of 'a\.yaml'") as caught:
        _differ(FLOWS).desired([_snapshot({"a.yaml": content})])

    assert caught.value.reason == "TemplateFailed"


def test_a_snapshot_that_would_delete_everything_is_refused_unless_that_is_allowed() -> None:
    with pytest.raises(SinkError, match="all 1 keys") as caught:
        _compare(_differ(FLOWS), {"README.md": "x"}, {"flows.a": b"1"})

    assert caught.value.reason == "WouldDeleteEverything"
    assert _compare(_differ(FLOWS, allow_empty=True), {}, {"flows.a": b"1"}).deletes == ("flows.a",)
    assert _compare(_differ(FLOWS), {}, {}).is_empty


def test_nothing_is_deleted_while_an_artifact_is_unknown() -> None:
    made = _compare(_differ(PATHS), {"a": "1"}, {"files.of_the_other": b"1"}, all_known=False)

    assert (set(made.puts), made.deletes) == ({"files.a"}, ())


def test_several_artifacts_have_one_desired_state() -> None:
    desired = _differ(PATHS).desired([_snapshot({"a": "1"}), _snapshot({"b": "2"}, artifact="example.com/other:1")])

    assert set(desired.values) == {"files.a", "files.b"}


def test_a_binary_file_can_be_keyed_by_its_path_and_keeps_its_bytes() -> None:
    records = pull("1", {"a": ""})
    binary = records[0].__class__(records[0].pull, 0, "a", b"\xff\x00", "", "", records[0].change)

    assert _differ(PATHS).desired([Snapshot(binary.pull, (binary,))]).values == {"files.a": b"\xff\x00"}


def test_a_cruel_pattern_takes_no_longer_than_another() -> None:
    differ = _differ({"match": "^(a+)+$", "key": "files.x"}, owns=("files.",))
    began = time.perf_counter()

    assert differ.desired([_snapshot({"a" * 3000 + "b": "1"})]).unmatched == 1
    assert time.perf_counter() - began < 0.3


def test_a_template_that_would_never_end_is_an_error() -> None:
    bomb = "files.{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"

    with pytest.raises(SinkError) as caught:
        _differ({"match": ".", "key": bomb}).desired([_snapshot({"a": "1"})])

    assert caught.value.reason == "TemplateFailed"


@pytest.mark.parametrize("owns", [[], [""], ["a.", " "], ["*", "a."]])
def test_owning_everything_by_accident_is_refused(owns: list[str]) -> None:
    with pytest.raises(ValidationError):
        diff.Fields.model_validate({"name": "d", "owns": owns, "routes": [PATHS]})


def test_check_names_the_route_whose_template_is_wrong() -> None:
    wrong = [{"match": ".", "key": "{{ pth }}"}, {"match": ".", "key": "{{ path "}]
    fields = diff.Fields.model_validate({"name": "d", "owns": ["a"], "routes": wrong})

    first, second = diff.check(fields)
    assert first.startswith("routes[0].key: unknown pth")
    assert second.startswith("routes[1].key: ")


_VALUES = st.dictionaries(st.sampled_from("abcdef"), st.binary(max_size=2), max_size=5)


@given(files=st.dictionaries(st.sampled_from("abcdef"), st.text("xy", max_size=2), min_size=1), held=_VALUES)
def test_applying_a_diff_gives_what_is_desired_and_leaves_the_rest(
    files: dict[str, str], held: dict[str, bytes]
) -> None:
    store = {f"files.{key}": value for key, value in held.items()} | {"other": b"1"}
    differ = _differ(PATHS, owns=("files.",))

    made = _compare(differ, files, store)
    after = {key: value for key, value in (store | dict(made.puts)).items() if key not in made.deletes}

    assert after == {f"files.{path}": text.encode() for path, text in files.items()} | {"other": b"1"}
    assert _compare(differ, files, after).is_empty
    assert differ.is_settled(differ.desired([_snapshot(files)]), after, all_known=True)
