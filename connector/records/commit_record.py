"""`commit_record: true`: the last record of a pull's transaction, for readers that want an end mark in the log. Pure.

Its key is that of the empty path, which no file can have, so compaction keeps the newest one, also of a pull without
files. Its header `oci.kind` is `commit`. Its content is JSON: what the pull was, and the paths with their digests, so
that a reader that starts now knows what to hold and what to drop. `set_digest` lets it check what it holds.
"""

import hashlib
from collections.abc import Mapping

from msgspec import Struct

from connector.records.document import compact
from connector.records.file_record import Change, FileRecord, PullFacts

# The list of paths is left out beyond these; the digest of the set remains. 256 KiB fit a topic with Kafka's default
# limit of 1 MiB although JSON within JSON may take twice the room.
_MOST_PATHS = 2_000
_MOST_BYTES = 256 * 1024


class CommitFacts(Struct, frozen=True):
    """What a commit record says beyond the pull's headers. `digests` maps the paths of one partition to layer digests.

    `changed` counts added and modified files and removed paths; `size_bytes` sums the files, before any encoding.
    """

    changed: int
    size_bytes: int
    digests: Mapping[str, str]


def end_mark(pull: PullFacts, facts: CommitFacts, position: int) -> FileRecord:
    """The commit record of a pull, as a file without path; for one partition, where a topic's keys spread over many."""
    digest = set_digest(facts.digests)
    document: dict[str, object] = {
        "pull_id": pull.pull_id,
        "artifact_digest": pull.artifact_digest,
        "previous_digest": pull.previous_digest,
        "files": pull.files,
        "deletes": pull.deletes,
        "changed": facts.changed,
        "bytes": facts.size_bytes,
        "here": len(facts.digests),
        "set_digest": digest,
    }
    if len(facts.digests) <= _MOST_PATHS:
        with_paths = compact({**document, "manifest": dict(sorted(facts.digests.items()))})
        if len(with_paths) <= _MOST_BYTES:
            return _mark(pull, position, with_paths, digest)
    return _mark(pull, position, compact(document), digest)


def set_digest(digests: Mapping[str, str]) -> str:
    """One digest of a set of files: sha256 over `<path> NUL <layer digest> LF` of each, in the order of UTF-8 bytes."""
    lines = sorted(f"{path}\0{digest}\n".encode() for path, digest in digests.items())
    return f"sha256:{hashlib.sha256(b''.join(lines)).hexdigest()}"


def _mark(pull: PullFacts, position: int, content: bytes, digest: str) -> FileRecord:
    return FileRecord(pull, position, "", content, digest, "application/json", Change.UNCHANGED)
