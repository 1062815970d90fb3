"""`directory_store`: files under a path; a reader never sees half a release.

    /srv/rules            a symbolic link, to
    /srv/.rules.versions/000012/…   the files; keys are their relative paths

Rules. (1) Each diff makes a new version beside the others, complete and on disk, and then swaps the link by one rename.
(2) Who has opened the directory of the version before can go on reading it: one old version is kept. (3) The link has
one writer. Files that a person changes or leaves in the current version are drift: they are put right with the next
version, and what is not under `owns` is carried along.
"""

import asyncio
import errno
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from connector.config.task import LocalPath
from connector.errors import SinkError
from connector.sink.operation import StoreFields, check_store
from connector.sink.parts import Parts
from connector.sink.store import Diff, Entry, Store

T = TypeVar("T")

_NAME_BYTES = 255  # NAME_MAX of every usual file system
_PATH_BYTES = 3000  # PATH_MAX is 4096; the rest is for the directory itself
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_KEPT_VERSIONS = 2


class Fields(StoreFields):
    """A directory; its keys are relative paths."""

    directory: LocalPath = Field(description="Where readers look. It is made, and is a symbolic link to a version.")


class DirectoryStore:
    """One directory."""

    def __init__(self, directory: Path) -> None:
        self._link = directory
        self._versions = directory.parent / f".{directory.name}.versions"

    def __repr__(self) -> str:
        return f"<DirectoryStore {self._link}>"

    def check(self, key: str, value: bytes) -> None:
        """Relative, no empty part, no '.' or '..', no control character; parts at most 255 bytes."""
        _check_path(key)

    async def list(self, prefix: str) -> Mapping[str, Entry]:
        """The regular files of the current version."""
        return await self._asked("listing", lambda: {key: _entry(path) for key, path in self._files(prefix).items()})

    async def keys(self, prefix: str) -> frozenset[str]:
        """The paths alone."""
        return await self._asked("listing", lambda: frozenset(self._files(prefix)))

    async def get(self, key: str) -> Entry | None:
        """One file's bytes."""
        _check_path(key)
        return (await self.list(key)).get(key)

    async def put(self, key: str, value: bytes, replaced: Entry | None) -> None:
        """A version that differs in one file."""
        await self.write(Diff({key: value}, ()))

    async def delete(self, key: str, replaced: Entry) -> None:
        """A version without that file."""
        await self.write(Diff({}, (key,)))

    async def write(self, diff: Diff) -> None:
        """A new version, then the swap."""
        for key in diff.puts:
            _check_path(key)
        await self._asked("writing", lambda: self._write(diff))

    async def probe(self) -> str:
        """Look whether the link is ours, and its parent can be written."""
        return await self._asked("looking at", self._look)

    async def close(self) -> None:
        """Nothing is open."""

    def _look(self) -> str:
        self._refuse_what_is_no_link()
        above = next(folder for folder in self._link.absolute().parents if folder.exists())
        if not os.access(above, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"{above} cannot be written")
        return f"{self._link} {'is there' if self._link.is_symlink() else 'does not exist yet; run makes it'}"

    def _refuse_what_is_no_link(self) -> None:
        if self._link.exists() and not self._link.is_symlink():
            raise SinkError(
                reason="StoreRefused",
                doing=f"writing {self._link}",
                cause="it is there, and is no link of ours",
                remedy="move it away, or choose another directory (operator)",
            )

    def _files(self, prefix: str) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder, _, names in os.walk(self._link):  # follows the link itself, none below it
            for name in names:
                path = Path(folder, name)
                key = path.relative_to(self._link).as_posix()
                if key.startswith(prefix) and path.is_file() and not path.is_symlink():
                    found[key] = path
        return found

    def _write(self, diff: Diff) -> None:
        self._refuse_what_is_no_link()
        self._versions.mkdir(parents=True, exist_ok=True)
        kept = {key: path for key, path in self._files("").items() if key not in diff.puts and key not in diff.deletes}
        number = max((int(path.name) for path in _numbered(self._versions)), default=0) + 1
        version = self._versions / f"{number:06d}"
        unfinished = self._versions / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for key, value in (*((key, path.read_bytes()) for key, path in kept.items()), *diff.puts.items()):
            _write_file(unfinished / key, value, key)
        unfinished.rename(version)
        self._swap(version)
        for old in sorted(_numbered(self._versions))[:-_KEPT_VERSIONS]:
            shutil.rmtree(old, ignore_errors=True)

    def _swap(self, version: Path) -> None:
        new = self._versions / "link"
        new.unlink(missing_ok=True)
        new.symlink_to(Path(self._versions.name, version.name))
        new.replace(self._link)
        _sync(self._link.parent)

    async def _asked(self, doing: str, work: Callable[[], T]) -> T:
        """The result of blocking work in a thread, its errors in our words."""
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise SinkError(
                reason="StoreUnreachable",
                doing=f"{doing} {self._link}",
                cause=error.strerror or str(error),
                remedy="check the disk, and that the worker may write to the directory's parent (operator)",
            ) from error


def build(fields: Fields, parts: Parts) -> Store:
    """The directory of one task."""
    return DirectoryStore(fields.directory)


def check(fields: Fields) -> list[str]:
    """What is wrong with the key's template."""
    return check_store(fields)


def _numbered(versions: Path) -> list[Path]:
    return [path for path in versions.iterdir() if path.name.isdigit()]


def _check_path(key: str) -> None:
    parts = key.split("/")
    if (
        _CONTROL.search(key)
        or any(part in ("", ".", "..") or len(part.encode()) > _NAME_BYTES for part in parts)
        or len(key.encode()) > _PATH_BYTES
    ):
        raise _key_invalid(key, "it is no relative path, or too long")


def _write_file(path: Path, value: bytes, key: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise _key_invalid(key, "another key is a file where this one needs a directory") from error


def _entry(path: Path) -> Entry:
    return Entry(path.read_bytes())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _key_invalid(key: str, cause: str) -> SinkError:
    return SinkError(
        reason="KeyInvalid",
        doing=f"using {key[:200]!r} as a path",
        cause=cause,
        remedy="mend the template of the key (operator), or the file's name (publisher)",
    )
