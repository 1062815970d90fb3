"""What becomes of files that are too large for their topic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from connector.errors import LayerError
from connector.kafka.record import record_size_bytes
from connector.layers.extract import ExtractOptions
from connector.records.file_record import Change, PullFacts
from connector.source.changes import compare
from connector.source.oversize import fit, leave_out
from connector.source.release import Release
from tests.records.samples import PULL, encoder
from tests.source.test_release import SOURCE, a_file, changes_of

SKIP = replace(SOURCE, oversize="skip")
REFERENCE = replace(SOURCE, oversize="reference")
TRACEPARENT = f"00-{'0' * 32}-{'0' * 16}-01"


def test_a_file_that_is_left_out_is_removed_where_readers_had_it_and_else_never_was() -> None:
    changes = compare({"old": "x", "gone": "y"}, [a_file(path, b"x") for path in ("a", "new", "old")])

    left = leave_out(changes, {"new", "old"})

    assert [(entry.path, entry.change, entry.file is None) for entry in left] == [
        ("a", Change.ADDED, False),
        ("gone", Change.REMOVED, True),
        ("old", Change.REMOVED, True),
    ]


def test_without_a_known_limit_nothing_is_touched() -> None:
    changes = changes_of({"a": b"x" * 10_000})

    assert fit(SKIP, changes, encoder("json"), None).changes == changes


def test_leaving_out_every_file_is_refused_unless_an_empty_artifact_is_meant() -> None:
    changes = changes_of({"a": b"x" * 10_000}, ["b"])

    with pytest.raises(LayerError, match="emptied") as caught:
        fit(SKIP, changes, encoder("json"), 5_000)
    assert caught.value.reason == "EmptyArtifact"

    meant = replace(SKIP, options=ExtractOptions(allow_empty=True))
    assert [entry.path for entry in fit(meant, changes, encoder("json"), 5_000).changes] == ["b"]


@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=12), limit=st.integers(1200, 5000), skip=st.booleans())
def test_what_is_left_always_fits(sizes: list[int], limit: int, skip: bool) -> None:
    source = replace(SKIP if skip else REFERENCE, options=ExtractOptions(allow_empty=True), commit_record=False)
    changes = changes_of({f"{number}": b"x" * size for number, size in enumerate(sizes)}, ["gone"])

    fitted = fit(source, changes, encoder("json"), limit)

    files = sum(1 for entry in fitted.changes if entry.file is not None)
    facts = replace(PULL, files=files, deletes=len(fitted.changes) - files)
    release = list(Release(source, facts, fitted.changes, encoder("json"), TRACEPARENT, 0, fitted.by_reference))
    assert isinstance(facts, PullFacts)
    assert max(record_size_bytes(record) for record in release) <= limit
    assert skip or len(release) == len(changes)
