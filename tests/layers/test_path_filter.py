"""`include` and `exclude` by path and media type."""

import time

import pytest

from connector.layers.path_filter import MediaTypeFilter, PathFilter


@pytest.mark.parametrize(
    ("pattern", "path", "wanted"),
    [
        ("*.yaml", "a.yaml", True),
        ("*.yaml", "flows/a.yaml", False),
        ("**/*.yaml", "a.yaml", True),
        ("**/*.yaml", "x/y/a.yaml", True),
        ("flows/**", "flows/a", True),
        ("flows/**", "flows/x/y", True),
        ("flows/**", "flows2/a", False),
        ("flows/", "flows/x/y", True),
        ("flows/", "flows", True),
        ("flows", "flows/a", False),
        ("flows/*/a", "flows/x/a", True),
        ("flows/*/a", "flows/x/y/a", False),
        ("a/**/b/**/c", "a/x/b/y/z/c", True),
        ("a/**/b/**/c", "a/b/c", True),
        ("a/**/b/**/c", "a/x/c", False),
        ("**", "anything/at/all", True),
        ("[ab].txt", "b.txt", True),
        ("[!ab].txt", "b.txt", False),
        ("?.txt", "ab.txt", False),
        ("./flows/*", "flows/a", True),
        ("a.yaml", "A.yaml", False),
        ("**/a", "x/a/b/a", True),
    ],
)
def test_a_pattern_matches_whole_paths_part_by_part(pattern: str, path: str, wanted: bool) -> None:
    assert PathFilter(include=(pattern,)).wants(path) is wanted
    assert PathFilter(exclude=(pattern,)).wants(path) is not wanted


def test_exclude_wins_over_include_and_nothing_set_wants_all() -> None:
    both = PathFilter(include=("flows/**",), exclude=("**/*.md",))

    assert both.wants("flows/a.yaml")
    assert not both.wants("flows/README.md")
    assert not both.wants("docs/a.yaml")
    assert PathFilter().wants("docs/a.yaml")


def test_media_types_match_across_slashes_and_without_case() -> None:
    images = MediaTypeFilter(include=("application/VND.oci.image.*",), exclude=("*+zstd",))

    assert images.wants("application/vnd.oci.image.layer.v1.tar+gzip")
    assert not images.wants("application/vnd.oci.image.layer.v1.tar+zstd")
    assert not images.wants("text/plain")


def test_no_path_makes_a_pattern_slow() -> None:
    patterns = PathFilter(include=("**/a/**/a/**/a/**/b", "*a*a*a*a*a*a*b"))

    start = time.process_time()
    assert not patterns.wants("a/" * 2000 + "a")
    assert not patterns.wants("a" * 4096)

    assert time.process_time() - start < 0.5
