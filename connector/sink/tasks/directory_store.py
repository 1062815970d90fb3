"""`directory_store`: files under a path; a reader never sees half a release.

    /srv/rules            a symbolic link, to
    /srv/.rules.versions/000012/…   the files; keys are their relative paths

Rules. (1) Each diff makes a new version beside the others, complete and on disk, and then swaps the link by one rename.
(2) Who has opened the directory of the version before can go on reading it: one old version is kept. (3) The link has
one writer. Files that a person changes or leaves in the current version are drift: they are put right with the next
version, and what is not under `owns` is carried along: files and folders with their modes, links as links. (4) No link
below the directory is followed; one that stands where a key's file or folder belongs gives way.
"""

import asyncio
import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
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
        below = ((key, path) for key, path in _below(self._link) if key.startswith(prefix))
        return {key: path for key, path in below if path.is_file() and not path.is_symlink()}

    def _write(self, diff: Diff) -> None:
        self._refuse_what_is_no_link()
        self._versions.mkdir(parents=True, exist_ok=True)
        written = diff.puts.keys() | set(diff.deletes)
        number = max((int(path.name) for path in _numbered(self._versions)), default=0) + 1
        version = self._versions / f"{number:06d}"
        unfinished = self._versions / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        usual = _permissions((self._link if self._link.is_dir() else unfinished).stat())
        unfinished.chmod(stat.S_IRWXU)  # nobody looks in while what is private has not got its mode yet
        for key, path in self._files("").items():
            if key not in written:
                value, mode = _read(path)
                _write_file(unfinished / key, value, key, mode)
        for key, value in diff.puts.items():
            _write_file(unfinished / key, value, key)
        _carry_links_and_folders(self._link, unfinished, written)
        unfinished.chmod(usual | stat.S_IRWXU)
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


def _below(top: Path) -> Iterator[tuple[str, Path]]:
    """Everything under a directory by its relative path; `top` may be a link, none below it is followed."""
    for folder, folders, names in os.walk(top):
        for path in (Path(folder, name) for name in (*folders, *names)):
            yield path.relative_to(top).as_posix(), path


def _carry_links_and_folders(old: Path, new: Path, written: Collection[str]) -> None:
    """Links as they are, folders that were empty, and the modes of folders.

    After all files and in this order, so that nothing is written or changed through a link.
    """
    left = [(key, path) for key, path in _below(old) if key not in written and not os.path.lexists(new / key)]
    links = [(key, path) for key, path in left if path.is_symlink()]
    empty = [(key, path) for key, path in left if not path.is_symlink() and path.is_dir() and not any(path.iterdir())]
    for key, _ in links:
        _make_parents(new / key, key)
    for key, _ in empty:
        with contextlib.suppress(NotADirectoryError, FileExistsError):  # nothing is lost where a file takes its place
            (new / key).mkdir(parents=True)
    for key, path in _below(old):
        if not path.is_symlink() and path.is_dir() and (new / key).is_dir():
            (new / key).chmod(_permissions(path.stat()) | stat.S_IRWXU)  # or the next version could not be cleared away
    for key, path in links:
        (new / key).symlink_to(path.readlink())


def _permissions(status: os.stat_result) -> int:
    """Who may read, write and run; no set-user-id, for the copy belongs to the worker."""
    return status.st_mode & 0o777


def _make_parents(path: Path, key: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (NotADirectoryError, FileExistsError) as error:
        raise _key_invalid(key, "another key is a file where this one needs a directory") from error


def _read(path: Path) -> tuple[bytes, int]:
    """The bytes and the permissions of a regular file. Raises OSError where it is a link by now."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read(), _permissions(os.fstat(file.fileno()))


def _write_file(path: Path, value: bytes, key: str, permissions: int | None = None) -> None:
    _make_parents(path, key)
    try:
        with path.open("xb") as file:
            if permissions is not None:
                os.fchmod(file.fileno(), permissions)
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise _key_invalid(key, "another key is a file where this one needs a directory") from error


def _entry(path: Path) -> Entry:
    return Entry(_read(path)[0])


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
