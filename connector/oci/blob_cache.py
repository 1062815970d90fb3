"""Blobs kept on disk between pulls and restarts, so that a new release fetches only what is new.

Rules. (1) By digest, and hashed again on each use: a damaged entry is dropped and fetched, never trusted. (2) Bounded:
the least recently used make room. (3) Shared by processes: small blobs are rows of one SQLite file, written in one
transaction a pull (no file and no fsync a blob), larger ones are files that appear by an atomic rename.
(4) A cache that cannot be used costs a warning and a download, never a pull. All methods block: call them in a thread.
"""

import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from connector.errors import LayerError
from connector.oci.digest import Digest, Hasher, algorithm_of, digest_of
from connector.oci.manifest import Descriptor
from connector.oci.spool import SMALL_BYTES, Blob, Spool

_LOG = logging.getLogger(__name__)

_DATABASE = "blobs-2.sqlite3"
_OLDER = "blobs-1.sqlite3"
_BUSY_SECONDS = 5.0  # another process writes a pull of 1,000 blobs in well under a tenth of a second
_ORPHAN_SECONDS = 3600.0
# The contents of small blobs stand in a table of their own: to note a use writes a row of 100 bytes, not the blob too.
_SCHEMA = """
create table if not exists blobs (
    id integer primary key, digest text not null unique, size integer not null, used_at real not null
);
create index if not exists by_use on blobs (used_at, size, digest);
create table if not exists contents (id integer primary key, data blob not null);
create trigger if not exists forget after delete on blobs begin delete from contents where id = old.id; end;
"""
_FIND = "select blobs.id, data from blobs left join contents on contents.id = blobs.id where digest = ?"
_KEEP = """
insert into blobs (digest, size, used_at) values (?, ?, ?)
    on conflict (digest) do update set size = excluded.size, used_at = excluded.used_at
"""
_FILL = "insert or replace into contents select id, ? from blobs where digest = ?"


class BlobCache:
    """A cache in `directory` of at most `limit_bytes` of blobs."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self._directory = directory
        self._files = directory / "files"
        self._database = directory / _DATABASE
        self._limit = limit_bytes

    def __repr__(self) -> str:
        return f"<BlobCache {self._directory} of {self._limit} bytes>"

    def load(self, layers: Iterable[Descriptor], spool: Spool) -> dict[Digest, Blob]:
        """Those of the blobs that are here, verified, as blobs of the spool. Never raises for the cache's sake."""
        found: dict[Digest, Blob] = {}
        with self._forgiving(), self._open() as database:
            stale: list[Digest] = []
            used: list[int] = []
            for number, layer, blob in self._checked(database, layers, spool):
                if blob is None:
                    stale.append(layer.digest)
                else:
                    found[layer.digest] = blob
                    used.append(number)
            now = time.time()
            database.executemany("update blobs set used_at = ? where id = ?", ((now, number) for number in used))
            self._forget(database, stale)
        return found

    def store(self, blobs: Sequence[Blob]) -> None:
        """Keep these blobs, as far as they fit. Never raises for the cache's sake."""
        with self._forgiving(), self._open() as database:
            for digest, size_bytes, data in self._kept(blobs):
                database.execute(_KEEP, (digest, size_bytes, time.time()))
                if data is not None:
                    database.execute(_FILL, (data, digest))
            self._evict(database)
            self._sweep(database)

    def size_bytes(self) -> int:
        """How many bytes of blobs it holds."""
        with self._open() as database:
            return int(database.execute("select coalesce(sum(size), 0) from blobs").fetchone()[0])

    def _kept(self, blobs: Sequence[Blob]) -> Iterator[tuple[Digest, int, bytes | None]]:
        """Each blob that is to be kept, with the bytes of a small one; the small ones of a pull may be 200 MB."""
        for blob in blobs:
            if blob.size_bytes > self._limit // 2:
                continue
            if blob.size_bytes <= SMALL_BYTES:
                yield blob.digest, blob.size_bytes, blob.read()
            elif self._keep_file(blob):
                yield blob.digest, blob.size_bytes, None

    def _checked(
        self, database: sqlite3.Connection, layers: Iterable[Descriptor], spool: Spool
    ) -> Iterator[tuple[int, Descriptor, Blob | None]]:
        """What has a row, with the number of the row; None where the bytes are not what they should be."""
        in_files: list[tuple[int, Descriptor]] = []
        for number, layer, data in _rows(database, layers):
            if data is None:
                in_files.append((number, layer))
            else:
                yield number, layer, _verified(layer, data, spool)
        for number, layer in in_files:
            yield number, layer, self._verified_file(layer, spool)

    def _verified_file(self, layer: Descriptor, spool: Spool) -> Blob | None:
        path = spool.new_path()
        try:
            _link(self._path(layer.digest), path)  # ours now, whatever another process evicts
            hasher = Hasher(algorithm_of(layer.digest))
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    hasher.update(chunk)
        except OSError:
            return None
        if (hasher.digest, hasher.size_bytes) != (layer.digest, layer.size_bytes):
            return None
        return spool.adopt(layer.digest, layer.size_bytes, path)

    def _keep_file(self, blob: Blob) -> bool:
        path = self._path(blob.digest)
        if blob.path is None:
            return False
        if not path.exists():
            self._files.mkdir(exist_ok=True)
            fresh = path.with_suffix(f".{os.getpid()}-{id(blob)}")
            _link(blob.path, fresh)
            fresh.replace(path)
        return True

    def _evict(self, database: sqlite3.Connection) -> None:
        total = int(database.execute("select coalesce(sum(size), 0) from blobs").fetchone()[0])
        if total <= self._limit:
            return
        leaving: list[Digest] = []
        for digest, size in database.execute("select digest, size from blobs order by used_at, size desc"):
            if total <= self._limit:
                break
            leaving.append(digest)
            total -= size
        self._forget(database, leaving)

    def _sweep(self, database: sqlite3.Connection) -> None:
        """Remove files without a row, which a process left that died between the two; young ones may get theirs yet.

        And the database of an older version, which nobody would ever make smaller.
        """
        (self._directory / _OLDER).unlink(missing_ok=True)
        if not self._files.exists():
            return
        rows = database.execute("select digest from blobs where id not in (select id from contents)")
        known = {self._path(Digest(row[0])).name for row in rows}
        for path in self._files.iterdir():
            if path.name not in known and time.time() - path.stat().st_ctime > _ORPHAN_SECONDS:
                path.unlink(missing_ok=True)

    def _forget(self, database: sqlite3.Connection, digests: Sequence[Digest]) -> None:
        database.executemany("delete from blobs where digest = ?", [(digest,) for digest in digests])
        for digest in digests:
            self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: Digest) -> Path:
        return self._files / digest.replace(":", "-")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction. Durability is not asked for: what a crash damages is found and dropped."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._database, timeout=_BUSY_SECONDS)) as database:
            database.execute("pragma synchronous = off")
            database.executescript(_SCHEMA)
            with database:
                yield database

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:  # locked, full, read-only: of this moment or this machine
            _LOG.warning("the blob cache %s is not used this time: %s", self._directory, error)
        except sqlite3.DatabaseError as error:
            _LOG.warning("the blob cache %s is damaged (%s) and begun anew", self._directory, error)
            self._database.unlink(missing_ok=True)
            shutil.rmtree(self._files, ignore_errors=True)
        except (OSError, LayerError) as error:
            _LOG.warning("the blob cache %s is not used this time: %s", self._directory, error)


def _rows(database: sqlite3.Connection, layers: Iterable[Descriptor]) -> Iterator[tuple[int, Descriptor, bytes | None]]:
    """What is known of the layers, with the bytes of small ones.

    In one transaction, since locking the file for each costs two thirds of the time; and one that has ended before
    anything is written or a large file is hashed: two readers that both wanted to write would lock each other out.
    """
    database.execute("begin")
    for layer in layers:
        row = database.execute(_FIND, (layer.digest,)).fetchone()
        if row is not None:
            yield row[0], layer, row[1]
    database.commit()


def _verified(layer: Descriptor, data: bytes, spool: Spool) -> Blob | None:
    is_right = len(data) == layer.size_bytes and digest_of(data, algorithm_of(layer.digest)) == layer.digest
    return spool.keep(layer.digest, data) if is_right else None


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name; a copy where the two are on different file systems."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
