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


def permissions(path: Path) -> int:
    return path.stat().st_mode & 0o7777


async def test_what_is_nobodys_of_ours_is_carried_along_with_its_mode_and_links_stay_links(
    store: Store, tmp_path: Path
) -> None:
    await apply(await diff_of({"a": b"1", "run.sh": b"1"}, frozenset(), store), store)
    rules = tmp_path / "rules"
    (tmp_path / "secret").write_bytes(b"s")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b").write_bytes(b"s")
    (rules / "private" / "inner").mkdir(parents=True)
    (rules / "private" / "key").write_bytes(b"k")
    (rules / "empty").mkdir()
    for path, mode in (("private", 0o700), ("private/key", 0o400), ("run.sh", 0o4755), ("empty", 0o2555), (".", 0o750)):
        (rules / path).chmod(mode)
    (rules / "private" / "inner" / "link").symlink_to("../../a")
    (rules / "to-file").symlink_to(tmp_path / "secret")
    (rules / "to-folder").symlink_to(tmp_path / "elsewhere")
    (rules / "to-nothing").symlink_to("nowhere")

    for value in (b"2", b"3", b"4"):
        await apply(await diff_of({"a": value}, frozenset(), store), store)

    assert set(await store.list("")) == {"a", "run.sh", "private/key"}
    assert (rules / "private" / "key").read_bytes() == b"k"
    modes = {path: permissions(rules / path) for path in ("private", "private/key", "run.sh", "empty", ".")}
    assert modes == {"private": 0o700, "private/key": 0o400, "run.sh": 0o755, "empty": 0o755, ".": 0o750}
    links = {path: str((rules / path).readlink()) for path in ("private/inner/link", "to-file", "to-nothing")}
    assert links == {"private/inner/link": "../../a", "to-file": str(tmp_path / "secret"), "to-nothing": "nowhere"}
    assert (rules / "to-folder").is_symlink()
    assert (rules / "to-folder" / "b").read_bytes() == b"s"


async def test_a_folder_goes_with_the_last_file_that_a_release_had_in_it(store: Store, tmp_path: Path) -> None:
    await apply(await diff_of({"a/x": b"1", "b": b"1"}, frozenset(), store), store)

    await apply(await diff_of({"b": b"2"}, frozenset({"a/x"}), store), store)

    assert not (tmp_path / "rules" / "a").exists()


async def test_a_link_in_the_place_of_a_file_or_folder_of_the_release_gives_way_and_nothing_is_written_through_it(
    store: Store, tmp_path: Path
) -> None:
    await apply(await diff_of({"a": b"1"}, frozenset(), store), store)
    (tmp_path / "target").write_bytes(b"s")
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "rules" / "file").symlink_to(tmp_path / "target")
    (tmp_path / "rules" / "folder").symlink_to(tmp_path / "elsewhere")

    await apply(await diff_of({"file": b"1", "folder/x": b"1"}, frozenset(), store), store)

    rules = tmp_path / "rules"
    assert (rules / "file").read_bytes() == (rules / "folder" / "x").read_bytes() == b"1"
    assert not (rules / "file").is_symlink()
    assert not (rules / "folder").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"s"
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_a_link_below_what_becomes_a_file_is_refused_as_a_file_there_would_be(
    store: Store, tmp_path: Path
) -> None:
    await apply(await diff_of({"a": b"1"}, frozenset(), store), store)
    (tmp_path / "rules" / "mine").mkdir()
    (tmp_path / "rules" / "mine" / "link").symlink_to("nowhere")

    with pytest.raises(SinkError, match="needs a directory"):
        await apply(Diff({"mine": b"1"}, ()), store)

    assert (tmp_path / "rules" / "mine" / "link").is_symlink()
