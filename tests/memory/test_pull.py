"""No artifact makes a pull take more memory than was promised, from the registry to a broker, cold and from the cache.

Each is pulled by a process of its own whose peak the kernel tells: above what it had while idle, and as a whole.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.memory import hostile
from tests.memory.pulls import Pulled, mock_broker, pull

# Real HTTP, real librdkafka and up to 100 MB a test: two minutes in all.
pytestmark = pytest.mark.system

MOST_ADDED_MB = 64
MAX_TOTAL_SIZE_MB = 100
BASE64 = {"binary": "base64"}

OUTCOMES = {
    "plain_text": "10 files",
    "text_that_doubles": "10 files",
    "control_characters": "RecordTooLarge",
    "control_characters_in_five_files": "5 files",
    "no_text": "10 files",
    "small_archives": "760 files",
    "small_layers": "1000 files",
    "many_files": "29000 files",
    "gzip_bomb_of_files": "10 files",
    "gzip_bomb_of_zeros": "TooLarge",
    "zstd_bomb_in_the_largest_window": "1 files",
    "zstd_bomb_in_a_larger_window": "TooLarge",
    "long_tar_headers": "BrokenArchive",
    "tar_headers_of_many_records": "1 files",
    "ten_thousand_layers": "TooLarge",
    "manifest_of_short_strings": "ManifestInvalid",
    "manifest_of_names": "ManifestInvalid",
    "manifest_of_the_most_names": "1 files",
    "manifest_of_wide_text": "1 files",
    "manifest_of_inline_blobs": "3 files",
}


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with mock_broker() as address:
        yield address


def outcomes(pulls: list[Pulled]) -> list[str]:
    """What came of both pulls; shows the figures of a test that fails, or of any with `-rP`."""
    for one in pulls:
        print(f"{one.outcome}: {one.grown_mb:.1f} MB above idle, {one.peak_mb:.1f} MB in all, {one.seconds:.1f} s")
    return [one.outcome for one in pulls]


def most_added_mb(pulls: list[Pulled]) -> float:
    return max(one.grown_mb for one in pulls)


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_pull_adds_at_most_64_mb_whatever_is_sent(name: str, broker: str, tmp_path: Path) -> None:
    pulls = pull(tmp_path, broker, name, BASE64)

    assert outcomes(pulls) == [OUTCOMES[name]] * 2
    assert most_added_mb(pulls) < MOST_ADDED_MB


def test_every_hostile_artifact_is_pulled_here() -> None:
    assert {*OUTCOMES, "many_files_and_many_bytes"} == {*hostile.LAYERS, *hostile.MANIFESTS}


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ({"format": "json_schema"}, "text_that_doubles"),
        ({"format": "raw"}, "no_text"),
        ({"headers": "cloudevents", "key_format": "json"}, "many_files"),
        ({"commit_record": True}, "small_layers"),
    ],
    ids=["json_schema", "raw", "cloudevents", "commit_record"],
)
def test_no_option_makes_a_pull_add_more(task: dict[str, object], name: str, broker: str, tmp_path: Path) -> None:
    pulls = pull(tmp_path, broker, name, {**BASE64, **task})

    assert outcomes(pulls) == [OUTCOMES[name]] * 2
    assert most_added_mb(pulls) < MOST_ADDED_MB


def test_without_transactions_a_pull_adds_no_more(broker: str, tmp_path: Path) -> None:
    pulls = pull(tmp_path, broker, "text_that_doubles", worker={"delivery": "at_least_once"})

    assert outcomes(pulls) == ["10 files"] * 2
    assert most_added_mb(pulls) < MOST_ADDED_MB


@pytest.mark.parametrize("name", ["plain_text", "text_that_doubles", "many_files"])
def test_a_pull_succeeds_where_the_system_gives_it_no_more_than_64_mb(name: str, broker: str, tmp_path: Path) -> None:
    pulls = pull(tmp_path, broker, name, room_mb=MOST_ADDED_MB)

    assert outcomes(pulls) == [OUTCOMES[name]] * 2


def test_the_whole_process_stays_64_mb_above_max_total_size_though_everything_comes_at_once(
    broker: str, tmp_path: Path
) -> None:
    pulls = pull(tmp_path, broker, "many_files_and_many_bytes")

    assert outcomes(pulls) == ["29257 files"] * 2
    assert max(one.peak_mb for one in pulls) < MAX_TOTAL_SIZE_MB + 64


def test_records_larger_than_our_topics_take_cost_twice_their_size(broker: str, tmp_path: Path) -> None:
    pulls = pull(tmp_path, broker, "control_characters", max_message_bytes=70_000_000)

    assert outcomes(pulls) == ["1 files"] * 2
    assert most_added_mb(pulls) < 2 * 60 + 8
