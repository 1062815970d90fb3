"""The directory store."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from connector.errors import SinkError
from connector.sink.parts import Parts
from connector.sink.store import Diff, Store, apply, diff_of
from connector.sink.tasks import directory_store
from tests.suites.store import StoreSuite


def _store(directory: Path) -> Store:
    return directory_store.build(directory_store.Fields(name="d", directory=directory), Parts("f"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return _store(tmp_path / "rules")


class TestDirectoryStore(StoreSuite):
    """Its puts replace whole versions, so there is no value to compare with."""


async def test_readers_of_the_version_before_can_go_on_reading(store: Store, tmp_path: Path) -> None:
    await apply(await diff_of({"a/x": b"1", "b": b"1"}, frozenset(), store), store)
    reader = os.open(tmp_path / "rules", os.O_RDONLY)

    await apply(await diff_of({"a/x": b"2"}, frozenset({"b"}), store), store)

    old = os.open("b", os.O_RDONLY, dir_fd=reader)
    assert (os.read(old, 10), (tmp_path / "rules/a/x").read_bytes(), (tmp_path / "rules/b").exists()) == (
        b"1",
        b"2",
        False,
    )
    os.close(old)
    os.close(reader)


class Reader(threading.Thread):
    """Opens the directory, lists it and reads every file, again and again; `seen` holds each different sight of it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(daemon=True)
        self._directory = directory
        self.seen: list[dict[str, bytes]] = []
        self.failed: OSError | None = None
        self.passed = threading.Event()
        self.ends = threading.Event()

    def run(self) -> None:
        try:
            while not self.ends.is_set():
                sight = self._pass()
                if sight not in self.seen[-2:]:
                    self.seen.append(sight)
                self.passed.set()
        except OSError as error:
            self.failed = error
            self.passed.set()

    def _pass(self) -> dict[str, bytes]:
        folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            seen: dict[str, bytes] = {}
            for name in os.listdir(folder):
                file = os.open(name, os.O_RDONLY, dir_fd=folder)
                seen[name] = os.read(file, 100)
                os.close(file)
            return seen
        finally:
            os.close(folder)


async def test_a_reader_that_never_rests_sees_each_release_whole_and_no_half(store: Store, tmp_path: Path) -> None:
    def release(number: int) -> dict[str, bytes]:
        return dict.fromkeys(("a", "b", "c", "d", f"only-in-{number}"), b"of release %d" % number)

    async def apply_release(number: int) -> None:
        held = await store.list("")
        puts, deletes = release(number), frozenset(held.keys() - release(number).keys())
        await apply(await diff_of(puts, deletes, store), store)

    await apply_release(0)
    reader = Reader(tmp_path / "rules")
    reader.start()
    for number in range(1, 10):
        await apply_release(number)
        # One version before the current is kept: whoever opened that one is through with it before the next.
        reader.passed.clear()
        await asyncio.to_thread(reader.passed.wait, 10)
    reader.ends.set()
    reader.join(10)

    assert reader.failed is None
    whole = [release(number) for number in range(10)]
    assert [sight for sight in reader.seen if sight not in whole] == []
    assert len(reader.seen) >= 9  # it did read while releases came


async def test_old_versions_do_not_pile_up(store: Store, tmp_path: Path) -> None:
    for number in range(5):
        await apply(await diff_of({"a": b"%d" % number}, frozenset(), store), store)

    assert len(list((tmp_path / ".rules.versions").iterdir())) == 2


async def test_what_a_crash_left_unfinished_is_not_seen_and_is_cleared_away(store: Store, tmp_path: Path) -> None:
    await apply(await diff_of({"a": b"1"}, frozenset(), store), store)
    half = tmp_path / ".rules.versions" / "unfinished"
    half.mkdir()
    (half / "b").write_bytes(b"half")

    assert set(await store.list("")) == {"a"}
    await apply(await diff_of({"a": b"2"}, frozenset(), store), store)

    assert not half.exists()


async def test_a_real_directory_in_the_way_is_not_touched(store: Store, tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/precious").write_bytes(b"1")

    with pytest.raises(SinkError, match="no link of ours"):
        await apply(Diff({"a": b"1"}, ()), store)

    assert (tmp_path / "rules/precious").read_bytes() == b"1"


@pytest.mark.parametrize("key", ["/etc/passwd", "../a", "a/../../b", "a//b", "a/", ".", "a\nb", "x" * 256, "a/" * 2000])
async def test_a_key_that_is_no_safe_relative_path_is_refused(store: Store, key: str) -> None:
    with pytest.raises(SinkError) as caught:
        await apply(Diff({key: b"1"}, ()), store)

    assert caught.value.reason == "KeyInvalid"


async def test_two_keys_where_one_is_a_folder_of_the_other_leave_the_old_release(store: Store) -> None:
    await apply(await diff_of({"a": b"1"}, frozenset(), store), store)

    with pytest.raises(SinkError, match="needs a directory"):
        await apply(Diff({"b": b"1", "b/c": b"2"}, ()), store)

    assert set(await store.list("")) == {"a"}


async def test_links_that_somebody_put_into_the_directory_are_not_followed(store: Store, tmp_path: Path) -> None:
    await apply(await diff_of({"a": b"1"}, frozenset(), store), store)
    (tmp_path / "secret").write_bytes(b"s")
    (tmp_path / "rules" / "link").symlink_to(tmp_path / "secret")

    assert set(await store.list("")) == {"a"}
