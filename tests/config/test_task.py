"""Durations, sizes, and how a task's word finds its module."""

import textwrap
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from connector.config.task import (
    Duration,
    Size,
    TaskFields,
    find_task,
    format_duration,
    format_size,
    half_of,
    parse_duration,
    parse_size,
    task_words,
)
from connector.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("1h 30m", 5400), ("2d", 172_800), ("1w", 604_800),
        ("0s", 0), ("10 minutes", 600), ("1hour 1sec", 3601), ("250us", 0.00025),
    ],
)  # fmt: skip
def test_durations_are_humantime(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    ["", " ", "s", "30", 30, 1.5, True, None, "1.5h", "-5s", "5 parsecs", "1h30", "99999999999w", "5S", [], "٣s"],
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"unit|duration|years"):
        parse_duration(value)


@given(st.integers(min_value=0, max_value=10**14).map(lambda count: timedelta(microseconds=count)))
def test_a_duration_that_was_written_reads_back_the_same(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("value", "size_bytes"),
    [("10MB", 10_000_000), ("64KiB", 65_536), ("1.5GB", 1_500_000_000), ("0", 0), (17, 17), ("1 GiB", 2**30), ("3b", 3),
     ("2k", 2000), ("1Ti", 2**40)],
)  # fmt: skip
def test_sizes_are_decimal_or_binary_as_written(value: object, size_bytes: int) -> None:
    assert parse_size(value) == size_bytes


@pytest.mark.parametrize("value", ["", "MB", "-1", -1, True, None, 1.5, "1.0001KB", "1.5B", "1XB", "9" * 30, "1,5MB"])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"size|bytes|negative"):
        parse_size(value)


@given(st.integers(min_value=0, max_value=2**62))
def test_a_size_that_was_written_reads_back_the_same(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


def test_models_write_durations_and_sizes_as_users_do() -> None:
    assert TypeAdapter(Duration).dump_python(timedelta(minutes=90)) == "1h30m"
    assert TypeAdapter(Size).dump_python(65_536) == "64KiB"


def test_a_task_name_is_fit_for_topics_and_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="pattern"):
        TaskFields.model_validate({"name": "a b"})
    with pytest.raises(ValidationError, match="Extra"):
        TaskFields.model_validate({"name": "a", "nmae": "b"})


def test_a_word_finds_the_module_of_its_name_and_the_half_is_told_by_its_package() -> None:
    assert find_task("generate").__name__ == "connector.source.tasks.generate"
    assert half_of(find_task("generate")) == "source"
    assert task_words()["oci_sync"] == "source"


@pytest.mark.parametrize("word", ["genrate", "Generate", "../generate", "generate.sub", "", "x" * 5000, "__init__"])
def test_an_unknown_word_is_an_error_that_says_what_there_is(word: str) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'generate'|tasks are") as caught:
        find_task(word)

    assert caught.value.reason == "UnknownTask"


def test_another_package_offers_a_task_by_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_tasks.py").write_text(
        textwrap.dedent(
            """
            from connector.config.task import TaskFields
            HALF = "sink"
            class Fields(TaskFields):
                "Shouts."
            """
        )
    )
    info = tmp_path / "their_tasks-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-tasks\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[oci_sync.tasks]\nshout = their_tasks\nbroken = no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert half_of(find_task("shout")) == "sink"
    assert task_words()["shout"] == "sink"
    with pytest.raises(ConfigError, match="cannot be imported"):
        find_task("broken")
