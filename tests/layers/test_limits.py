"""Canonical paths, and the budget that all layers of one artifact share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.layers.limits import canonical_entry_path, canonical_path


@pytest.mark.parametrize("name", ["flows/a", "./flows/a", "flows//a", "flows/./a", ".//flows/././a"])
def test_spellings_of_one_title_are_one_path(name: str) -> None:
    assert canonical_path(name) == "flows/a"


@pytest.mark.parametrize(
    "name", ["flows/a", "./flows/a", "/flows/a", "//flows//a", "flows/./a", "flows/a/", "flows/a/."]
)
def test_spellings_of_one_entry_are_one_path(name: str) -> None:
    assert canonical_entry_path(name) == "flows/a"


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("../x", "climbs"),
        ("a/../b", "climbs"),
        ("a/..", "climbs"),
        ("/etc/passwd", "absolute"),
        ("//host/share", "absolute"),
        ("C:\\x", "Windows"),
        ("c:/x", "Windows"),
        ("./C:/x", "Windows"),
        ("a\\b", "Windows"),
        ("..\\x", "Windows"),
        ("a\x00b", "control"),
        ("a\nb", "control"),
        ("a\x7fb", "control"),
        ("a\x9bb", "control"),
        ("", "empty"),
        (".", "empty"),
        ("./", "empty"),
        ("a/", "directory"),
        ("a/.", "directory"),
        ("x" * 5000, "longer than 4096"),
        ("ü" * 2049, "longer than 4096"),
        ("a\ud800", "Unicode"),
    ],
)
def test_a_title_that_could_mislead_a_reader_is_refused(name: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        canonical_path(name)


@pytest.mark.parametrize(
    "name", ["../x", "a/../../b", "..\\x", "a\\..\\b", "C:\\x", "/C:/x", "a\x00b", "x/" * 2500, "a\x1bb"]
)
def test_an_entry_that_could_mislead_a_reader_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="the path"):
        canonical_entry_path(name)


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "ä/ö",
        "a\u0308",
        "...",
        "..a/b..",
        "x" * 4096,
        "a:b",
        "ab:/c",
        "#",
        "a#b",
        "日本語.yaml",
        "🙂",
        "a\u2028b",
    ],
)
def test_an_unusual_but_harmless_title_stays_as_it_is(name: str) -> None:
    assert canonical_path(name) == name


def test_a_backslash_in_an_entry_is_a_character_as_in_unit_names_of_systemd() -> None:
    assert canonical_entry_path("system/dev-disk-by\\x2duuid.swap") == "system/dev-disk-by\\x2duuid.swap"


def test_case_and_unicode_form_tell_paths_apart() -> None:
    names = ["README", "readme", "\u00e9", "e\u0301"]

    assert len({canonical_path(name) for name in names}) == 4


@given(st.text(max_size=40) | st.text(alphabet="./\\a:", max_size=12))
def test_whatever_the_name_the_path_is_safe_and_stable(name: str) -> None:
    for canonical in (canonical_path, canonical_entry_path):
        try:
            path = canonical(name)
        except ValueError:
            continue
        assert canonical(path) == path if path else canonical is canonical_entry_path
        assert all(part not in ("", ".", "..") for part in path.split("/")) or path == ""
        assert not path.startswith("/")
        assert len(path.encode()) <= 4096
