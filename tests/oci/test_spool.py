"""Where blobs are until nobody holds them, and what is left when a process is killed."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.errors import LayerError
from connector.oci.digest import digest_of
from connector.oci.spool import MemoryBudget, Spool, SpoolDirectory

PARTS = st.lists(st.binary(max_size=40), min_size=1, max_size=6)
MOVES = st.lists(st.tuples(st.sampled_from(["read", "seek", "end"]), st.integers(0, 50)), max_size=10)


@given(PARTS, MOVES, st.integers(0, 60))
def test_a_blob_reads_like_a_file_wherever_it_is_kept(
    parts: list[bytes], moves: list[tuple[str, int]], memory: int
) -> None:
    spool = Spool(MemoryBudget(memory))
    blobs = [spool.keep(digest_of(part), part) for part in parts]

    for part, blob in zip(parts, blobs, strict=True):
        expected = io.BytesIO(part)
        with blob.open() as reader:
            for move, count in moves:
                if move == "read":
                    assert reader.read(count) == expected.read(count)
                elif move == "seek":
                    assert reader.seek(count) == expected.seek(count)
                else:
                    assert reader.seek(0, io.SEEK_END) == expected.seek(0, io.SEEK_END)
        assert blob.read() == part
    spool.close()


def test_memory_is_given_back_when_the_last_blob_is_gone(tmp_path: Path) -> None:
    budget = MemoryBudget(100)
    spool: Spool | None = Spool(budget, SpoolDirectory(tmp_path))
    assert spool is not None
    blob = spool.keep(digest_of(b"x" * 60), b"x" * 60)
    del spool
    assert budget.left_bytes == 40
    assert blob.read() == b"x" * 60

    del blob

    assert budget.left_bytes == 100


def test_closing_twice_gives_back_once() -> None:
    budget = MemoryBudget(100)
    spool = Spool(budget)
    spool.keep(digest_of(b"x"), b"x")

    spool.close()
    spool.close()

    assert budget.left_bytes == 100


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_holds_is_not(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from connector.oci.spool import SpoolDirectory\n"
        "folder = SpoolDirectory(Path(sys.argv[1])); (folder.path() / 'blob').write_text('x')\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        os.kill(processes[0].pid, signal.SIGKILL)
        processes[0].wait(10)
        assert len(list(tmp_path.rglob("blob"))) == 2

        own = SpoolDirectory(tmp_path)
        own.path()

        assert len(list(tmp_path.rglob("blob"))) == 1
        assert len(list(tmp_path.iterdir())) == 2
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(LayerError, match=r"spool\.directory") as caught:
        SpoolDirectory(tmp_path / "file").path()

    assert caught.value.reason == "SpoolFailed"


def test_a_folder_that_a_kill_left_without_its_lock_is_removed_when_it_is_old(tmp_path: Path) -> None:
    old, new = tmp_path / "process-old", tmp_path / "process-new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "1").write_bytes(b"x")
    os.utime(old, (0, 0))

    SpoolDirectory(tmp_path).path()

    assert not old.exists()
    assert new.exists()
