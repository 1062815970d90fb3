"""The commit record: what the pull was, in a few bytes, and a digest that a reader can compute itself."""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from connector.records.commit_record import CommitFacts, end_mark, set_digest
from tests.records.samples import PULL

DIGEST = "sha256:" + "b" * 64


def test_it_says_what_the_pull_was() -> None:
    mark = end_mark(replace(PULL, files=2, deletes=1), CommitFacts(2, 30, {"b": DIGEST, "a": DIGEST}), 3)

    assert mark.position == 3
    assert json.loads(mark.content or b"") == {
        "pull_id": PULL.pull_id,
        "artifact_digest": PULL.artifact_digest,
        "previous_digest": PULL.previous_digest,
        "files": 2,
        "deletes": 1,
        "changed": 2,
        "bytes": 30,
        "here": 2,
        "set_digest": "sha256:" + hashlib.sha256(b"a\0%b\nb\0%b\n" % ((DIGEST.encode(),) * 2)).hexdigest(),
        "manifest": {"a": DIGEST, "b": DIGEST},
    }


def test_a_long_list_of_paths_is_left_out_and_the_digest_remains() -> None:
    for digests in ({f"{n:05d}": DIGEST for n in range(2001)}, {"x" * 4000 + str(n): DIGEST for n in range(70)}):
        mark = end_mark(PULL, CommitFacts(1, 1, digests), 0)

        document = json.loads(mark.content or b"")
        assert "manifest" not in document
        assert document["set_digest"] == set_digest(digests)
        assert len(mark.content or b"") < 1000


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), st.just(DIGEST)))
def test_the_digest_does_not_depend_on_the_order_of_the_files(digests: dict[str, str]) -> None:
    assert set_digest(digests) == set_digest(dict(reversed(list(digests.items()))))
