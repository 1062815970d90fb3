"""The last offset against the files of a new snapshot: what was added, modified, removed. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from connector.layers.extract import File
from connector.records.file_record import Change
from connector.records.source_offset import short_hash


class FileChange(Struct, frozen=True):
    """One path, what happened to it, and its file; `file` is None where it was removed."""

    path: str
    change: Change
    file: File | None


def compare(previous: Mapping[str, str] | None, files: Sequence[File]) -> tuple[FileChange, ...]:
    """Every file in the order given, then each removed path in the order of its name.

    `previous` maps the paths of the last committed snapshot to short content hashes; None before the first pull.
    """
    before = previous or {}
    present = tuple(FileChange(file.path, _change(before.get(file.path), file), file) for file in files)
    now = {file.path for file in files}
    removed = tuple(FileChange(path, Change.REMOVED, None) for path in sorted(before) if path not in now)
    return present + removed


def _change(before: str | None, file: File) -> Change:
    if before is None:
        return Change.ADDED
    return Change.UNCHANGED if before == short_hash(file.content_hash) else Change.MODIFIED
