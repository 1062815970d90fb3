"""The blob cache on disk: bounded, checked on use, shared, and never in the way of a pull."""

import logging
import multiprocessing
import random
import sqlite3
import time
import tracemalloc
from logging.handlers import QueueHandler
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import SimpleQueue

import pytest

from connector.oci.blob_cache import BlobCache
from connector.oci.digest import digest_of
from connector.oci.manifest import Descriptor
from connector.oci.spool import SMALL_BYTES, Blob, MemoryBudget, Spool, SpoolDirectory


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def descriptor(data: bytes) -> Descriptor:
    return Descriptor("text/plain", digest_of(data), len(data))


def keep(spool: Spool, data: bytes) -> Blob:
    if len(data) <= SMALL_BYTES:
        return spool.keep(digest_of(data), data)
    path = spool.new_path()
    path.write_bytes(data)
    return spool.adopt(digest_of(data), len(data), path)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(MemoryBudget(1 << 20), SpoolDirectory(tmp_path / "spool"))


def test_what_was_stored_is_loaded_by_another_process_too(tmp_path: Path, spool: Spool) -> None:
    small, large = content(1, 1000), content(2, SMALL_BYTES + 1)
    BlobCache(tmp_path / "cache", 1 << 30).store([keep(spool, small), keep(spool, large)])

    found = BlobCache(tmp_path / "cache", 1 << 30).load([descriptor(small), descriptor(large), descriptor(b"?")], spool)

    assert {digest: blob.read() for digest, blob in found.items()} == {digest_of(small): small, digest_of(large): large}


def test_the_least_recently_used_make_room(tmp_path: Path, spool: Spool) -> None:
    cache = BlobCache(tmp_path / "cache", 10_000)
    contents = [content(seed, 3000) for seed in range(4)]
    for data in contents[:3]:
        cache.store([keep(spool, data)])
    cache.load([descriptor(contents[0])], spool)

    cache.store([keep(spool, contents[3])])

    found = cache.load([descriptor(data) for data in contents], spool)
    assert set(found) == {digest_of(contents[index]) for index in (0, 2, 3)}
    assert cache.size_bytes() == 9000


def test_evicted_files_leave_the_disk_and_a_blob_in_use_stays_readable(tmp_path: Path, spool: Spool) -> None:
    cache = BlobCache(tmp_path / "cache", 3 * SMALL_BYTES)
    first, second = content(1, SMALL_BYTES + 1), content(2, SMALL_BYTES + 2)
    cache.store([keep(spool, first)])
    held = cache.load([descriptor(first)], spool)[digest_of(first)]

    cache.store([keep(spool, second)])
    cache.store([keep(spool, content(3, SMALL_BYTES + 3))])

    assert held.read() == first
    assert len(list((tmp_path / "cache" / "files").iterdir())) == 2


def test_evicted_small_blobs_leave_the_disk_too(tmp_path: Path, spool: Spool) -> None:
    cache = BlobCache(tmp_path / "cache", 10_000)

    for seed in range(100):
        cache.store([keep(spool, content(seed, 3000))])

    assert cache.size_bytes() == 9000
    assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) < 100_000


def test_the_database_of_an_older_version_is_removed(tmp_path: Path, spool: Spool) -> None:
    older = tmp_path / "cache" / "blobs-1.sqlite3"
    older.parent.mkdir()
    older.write_bytes(bytes(1000))

    BlobCache(older.parent, 10_000).store([keep(spool, b"small")])

    assert not older.exists()


def test_a_blob_of_half_the_cache_is_not_kept(tmp_path: Path, spool: Spool) -> None:
    cache = BlobCache(tmp_path / "cache", 1000)

    cache.store([keep(spool, content(1, 501))])

    assert cache.size_bytes() == 0


def test_a_damaged_row_is_dropped_and_not_trusted(tmp_path: Path, spool: Spool) -> None:
    cache = BlobCache(tmp_path / "cache", 1 << 20)
    data = content(1, 1000)
    cache.store([keep(spool, data)])
    with sqlite3.connect(tmp_path / "cache" / "blobs-2.sqlite3") as database:
        database.execute("update contents set data = ?", (b"x" * 1000,))

    assert cache.load([descriptor(data)], spool) == {}
    assert cache.size_bytes() == 0


def test_a_damaged_file_is_begun_anew_with_a_warning(
    tmp_path: Path, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    cache = BlobCache(tmp_path / "cache", 1 << 20)
    data = content(1, 1000)
    cache.store([keep(spool, data)])
    (tmp_path / "cache" / "blobs-2.sqlite3").write_bytes(b"no database" * 1000)

    with caplog.at_level(logging.WARNING):
        assert cache.load([descriptor(data)], spool) == {}
    assert "begun anew" in caplog.text

    cache.store([keep(spool, data)])
    assert len(cache.load([descriptor(data)], spool)) == 1


def test_a_place_that_cannot_be_written_costs_a_warning_and_no_pull(
    tmp_path: Path, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("in the way")
    cache = BlobCache(tmp_path / "cache", 1 << 20)

    with caplog.at_level(logging.WARNING):
        cache.store([keep(spool, b"x")])
        assert cache.load([descriptor(b"x")], spool) == {}

    assert "not used this time" in caplog.text


def test_a_file_that_a_crash_left_without_a_row_is_removed_in_time(tmp_path: Path, spool: Spool) -> None:
    cache = BlobCache(tmp_path / "cache", 1 << 30)
    cache.store([keep(spool, content(1, SMALL_BYTES + 1))])
    orphan = tmp_path / "cache" / "files" / "sha256-orphan"
    orphan.write_bytes(b"x")

    cache.store([keep(spool, b"y")])
    assert orphan.exists()

    now = time.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now + 3700)
        cache.store([keep(spool, b"z")])
    assert not orphan.exists()
    assert len(list((tmp_path / "cache" / "files").iterdir())) == 1


def test_many_small_blobs_are_never_in_memory_together(tmp_path: Path, spool: Spool) -> None:
    contents = [content(seed, SMALL_BYTES) for seed in range(40)]
    cache, descriptors = BlobCache(tmp_path / "cache", 1 << 30), [descriptor(data) for data in contents]
    blobs = [keep(spool, data) for data in contents]  # four of them fit the spool's budget, the others are on disk
    del contents

    tracemalloc.start()
    try:
        cache.store(blobs)
        stored = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        found = cache.load(descriptors, Spool(MemoryBudget(0), SpoolDirectory(tmp_path / "spool")))
        loaded = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(found) == 40
    assert max(stored, loaded) < 6 * SMALL_BYTES


def _store_many(directory: Path, seed: int) -> None:
    spool = Spool(MemoryBudget(1 << 20), SpoolDirectory(directory / "spool"))
    for number in range(5):
        data = [content(seed * 1000 + number * 10 + index, 500) for index in range(10)]
        BlobCache(directory / "cache", 1 << 20).store([keep(spool, item) for item in data])


def test_processes_may_write_at_the_same_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_store_many, args=(tmp_path, seed)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)

    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert BlobCache(tmp_path / "cache", 1 << 20).size_bytes() == 3 * 5 * 10 * 500


def _use_many(directory: Path, start: Barrier) -> None:
    warnings: SimpleQueue[logging.LogRecord] = SimpleQueue()
    logging.getLogger("connector.oci.blob_cache").addHandler(QueueHandler(warnings))
    spool = Spool(MemoryBudget(1 << 20), SpoolDirectory(directory / "spool"))
    data = [content(index, 500) for index in range(40)]
    start.wait(30)
    for _ in range(20):
        assert len(BlobCache(directory / "cache", 1 << 20).load([descriptor(item) for item in data], spool)) == 40
    assert warnings.empty()


def test_processes_that_note_a_use_at_the_same_time_do_not_lock_each_other_out(tmp_path: Path, spool: Spool) -> None:
    BlobCache(tmp_path / "cache", 1 << 20).store([keep(spool, content(index, 500)) for index in range(40)])
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3)
    workers = [context.Process(target=_use_many, args=(tmp_path, start)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)

    assert [worker.exitcode for worker in workers] == [0, 0, 0]
