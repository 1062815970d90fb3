"""Files of an artifact written into a directory: under it and nowhere else, each whole or not at all.

Every part of a path is opened from its parent without following links, so a link that stands in the directory cannot
lead a file out of it. A file appears under its name by a rename, and replaces the file that stood there.
"""

import errno
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from connector.errors import LayerError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def write_files(directory: Path, files: Iterable[tuple[str, Callable[[], bytes]]]) -> None:
    """Write each file (its path, what reads it) under its path; what else is in the directory stays. Raises LayerError.

    UnsafePath where a link or another kind of file is in the way, SpoolFailed where the disk refuses.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _failed(directory, ".", error) from error
    try:
        for path, read in files:
            try:
                _write(top, path, read)
            except OSError as error:
                raise _failed(directory, path, error) from error
    finally:
        os.close(top)


def _write(top: int, path: str, read: Callable[[], bytes]) -> None:
    *folders, name = path.split("/")
    if name in ("", ".", ".."):
        raise NotADirectoryError(f"{name!r} in a path")
    with _opened(top, folders) as parent:
        fresh = f".oci-sync-{secrets.token_hex(8)}"
        handle = os.open(fresh, _NEW_FILE, 0o666, dir_fd=parent)
        try:
            with os.fdopen(handle, "wb") as target:
                target.write(read())
            os.replace(fresh, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            os.unlink(fresh, dir_fd=parent)
            raise


@contextmanager
def _opened(top: int, folders: list[str]) -> Iterator[int]:
    """The last of the folders, each made if it is missing and opened from its parent."""
    current = os.dup(top)
    try:
        for folder in folders:
            if folder in ("", ".", ".."):  # canonical paths hold none; this is the second lock on that door
                raise NotADirectoryError(f"{folder!r} in a path")
            with suppress(FileExistsError):
                os.mkdir(folder, dir_fd=current)
            inner = os.open(folder, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = inner
        yield current
    finally:
        os.close(current)


def _failed(directory: Path, path: str, error: OSError) -> LayerError:
    in_the_way = isinstance(error, NotADirectoryError | IsADirectoryError) or error.errno == errno.ELOOP
    return LayerError(
        reason="UnsafePath" if in_the_way else "SpoolFailed",
        doing=f"writing {path!r} under {directory}",
        cause="a link or another kind of file is in the way" if in_the_way else error.strerror or type(error).__name__,
        remedy="write to an empty directory, or make room (operator)",
    )
