"""Where fetched blobs are until nobody holds them: small ones in memory, within a budget, all others on disk.

Every blob holds its spool, so files and memory are given back when the last blob is gone, or at `close`. Nothing on
disk is named by anything that came from outside.
"""

import fcntl
import io
import os
import shutil
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import BinaryIO

from connector.errors import LayerError
from connector.oci.digest import Digest

_PREFIX = "process-"
_LOCK = ".lock"
_MAKING_SECONDS = 3600.0  # longer than it takes to make or to remove a folder
SMALL_BYTES = 256 << 10  # up to here a blob is one piece in memory; above, it streams to a file of its own


class MemoryBudget:
    """Bytes that all spools of a process may hold in memory together. Used from several threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._left = limit_bytes
        self._lock = threading.RLock()  # the garbage collector may release a spool in the middle of a `take`

    def take(self, size_bytes: int) -> bool:
        """Whether that much was left; then it is taken."""
        with self._lock:
            if size_bytes > self._left:
                return False
            self._left -= size_bytes
            return True

    def give(self, size_bytes: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._left += size_bytes

    @property
    def left_bytes(self) -> int:
        """What is left."""
        return self._left


class SpoolDirectory:
    """This process's own folder below `parent`, made when it is first needed and removed with the process.

    What a killed process has left there is removed at the next start of any: who holds no lock on its folder is dead,
    also when it ran in another container on the same volume.
    """

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._own: Path | None = None

    def path(self) -> Path:
        """The folder. Raises LayerError SpoolFailed."""
        while self._own is None:
            try:
                self._parent.mkdir(parents=True, exist_ok=True)
                self._sweep()
                folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._parent))
                lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                raise spool_failed(self._parent, error) from error
            if (folder / _LOCK).exists():  # else another one's sweep was quicker than our lock
                self._own = folder
                weakref.finalize(self, _remove, lock, folder)
            else:
                os.close(lock)
        return self._own

    def _sweep(self) -> None:
        for folder in self._parent.glob(f"{_PREFIX}*"):
            try:
                lock = os.open(folder / _LOCK, os.O_RDWR)
            except OSError:  # being made or being removed at this moment, or what a kill in the middle of that left
                if _is_old(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                continue
            finally:
                os.close(lock)


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > _MAKING_SECONDS
    except OSError:
        return False


def _remove(lock: int, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


class Blob:
    """Verified bytes of one digest. Any number of readers, from any thread."""

    __slots__ = ("_data", "_offset", "_path", "_spool", "digest", "size_bytes")

    def __init__(
        self,
        digest: Digest,
        size_bytes: int,
        spool: "Spool | None" = None,
        data: bytes | None = None,
        path: Path | None = None,
        offset: int = 0,
    ) -> None:
        self.digest = digest
        self.size_bytes = size_bytes
        self._spool = spool
        self._data = data
        self._path = path
        self._offset = offset

    def __repr__(self) -> str:
        return f"<Blob {self.digest} {self.size_bytes} bytes {'in memory' if self._path is None else 'on disk'}>"

    @property
    def path(self) -> Path | None:
        """The file that holds this blob and nothing else; None where there is no such file."""
        return self._path if self._offset == 0 and self._path is not None and self._data is None else None

    def open(self) -> BinaryIO:
        """A fresh reader at the first byte; close it. The blob must outlive it."""
        if self._path is None:
            return io.BytesIO(self._data or b"")
        return io.BufferedReader(_Slice(self._path, self._offset, self.size_bytes))

    def read(self) -> bytes:
        """All of it."""
        if self._path is None:
            return self._data or b""
        with self.open() as reader:
            return reader.read()


class Spool:
    """The blobs of one fetch. `directory` None: the system's place for temporary files."""

    def __init__(self, budget: MemoryBudget, directory: SpoolDirectory | None = None) -> None:
        self._parent = directory
        self._held = _Held(budget)
        self._files = 0
        self._pack: Path | None = None
        self._pack_bytes = 0
        weakref.finalize(self, self._held.release)

    def __repr__(self) -> str:
        return f"<Spool {self._files} files, {self._pack_bytes} bytes packed, {self._held.memory_bytes} in memory>"

    def keep(self, digest: Digest, data: bytes) -> Blob:
        """A small blob: in memory while the budget lasts, else behind the others in one file. Raises LayerError."""
        if self._held.take(len(data)):
            return Blob(digest, len(data), self, data)
        pack = self._pack = self._pack or self.new_path()
        offset = self._pack_bytes
        try:
            with pack.open("ab") as file:
                file.write(data)
        except OSError as error:
            self._pack, self._pack_bytes = None, 0  # it may hold a part of the blob, so nothing goes behind it
            raise spool_failed(pack.parent, error) from error
        self._pack_bytes += len(data)
        return Blob(digest, len(data), self, None, pack, offset)

    def adopt(self, digest: Digest, size_bytes: int, path: Path) -> Blob:
        """A blob that was written to one of our paths, whole."""
        return Blob(digest, size_bytes, self, None, path)

    def new_path(self) -> Path:
        """A path in this spool's own directory that is not taken. Raises LayerError SpoolFailed."""
        if self._held.directory is None:
            parent = Path(tempfile.gettempdir()) if self._parent is None else self._parent.path()
            try:
                self._held.directory = tempfile.TemporaryDirectory(
                    prefix="oci-sync-",
                    dir=parent,
                    ignore_cleanup_errors=True,  # a thread may write into it while it is removed
                )
            except OSError as error:
                raise spool_failed(parent, error) from error
        self._files += 1
        return Path(self._held.directory.name) / str(self._files)

    def close(self) -> None:
        """Remove the files and give the memory back. The blobs can no longer be read from disk.

        May be called again, for what came in after the last time.
        """
        self._held.release()


class _Held:
    """What a spool must give back; apart from it, so that it can be given back when the spool is gone."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._lock = threading.RLock()  # a thread may still put something in while the loop releases
        self.memory_bytes = 0
        self.directory: tempfile.TemporaryDirectory[str] | None = None

    def take(self, size_bytes: int) -> bool:
        with self._lock:
            taken = self._budget.take(size_bytes)
            self.memory_bytes += size_bytes if taken else 0
        return taken

    def release(self) -> None:
        with self._lock:
            self._budget.give(self.memory_bytes)
            self.memory_bytes = 0
            directory, self.directory = self.directory, None
        if directory is not None:
            directory.cleanup()


class _Slice(io.RawIOBase):
    """A part of a file as a file of its own, for reading and seeking."""

    def __init__(self, path: Path, offset: int, size_bytes: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._offset = offset
        self._size = size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # what BufferedReader hands in
        wanted = min(len(buffer), max(0, self._size - self._position))
        self._file.seek(self._offset + self._position)
        count = self._file.readinto(memoryview(buffer)[:wanted]) or 0
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        self._file.close()
        super().close()


def spool_failed(path: Path, error: OSError) -> LayerError:
    """The disk under the spool does not do as it should."""
    return LayerError(
        reason="SpoolFailed",
        doing=f"writing to the spool {path}",
        cause=error.strerror or type(error).__name__,
        remedy="make room there, or set spool.directory to a place that can be written (operator)",
    )
