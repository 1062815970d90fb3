"""Whiteouts, opaque directories and replacement, and random stacks against a model that keeps a plain file tree."""

import tarfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.layers.overlay import Marker, Overlay, read_marker
from tests.layers.artifacts import archive_layer, contents, directory, symbolic_link


@pytest.mark.parametrize(
    ("path", "marker", "meaning"),
    [
        ("a/b", Marker.NONE, "a/b"),
        (".wh.a", Marker.WHITEOUT, "a"),
        ("d/.wh.a", Marker.WHITEOUT, "d/a"),
        ("d/.wh..hidden", Marker.WHITEOUT, "d/.hidden"),
        (".wh..wh..opq", Marker.OPAQUE, ""),
        ("d/e/.wh..wh..opq", Marker.OPAQUE, "d/e"),
        (".wh.", Marker.MEANINGLESS, ".wh."),
        (".wh..", Marker.MEANINGLESS, ".wh.."),
        ("d/.wh...", Marker.MEANINGLESS, "d/.wh..."),
        ("d/.wh..wh.plnk", Marker.MEANINGLESS, "d/.wh..wh.plnk"),
        (".wh.d/a", Marker.MEANINGLESS, ".wh.d/a"),
        ("a.wh.b", Marker.NONE, "a.wh.b"),
        ("x.wh./a", Marker.NONE, "x.wh./a"),
    ],
)
def test_a_name_says_what_it_marks(path: str, marker: Marker, meaning: str) -> None:
    assert read_marker(path) == (marker, meaning)


def test_a_whiteout_takes_a_file_of_a_lower_layer_away() -> None:
    lower = archive_layer({"keep": b"1", "d/gone": b"2"})

    assert contents(lower, archive_layer({"d/.wh.gone": b""})) == {"keep": b"1"}


def test_a_whiteout_takes_a_whole_directory_away() -> None:
    lower = archive_layer({"d/a": b"1", "d/e/b": b"2", "dd": b"3"})

    assert contents(lower, archive_layer({".wh.d": b""})) == {"dd": b"3"}


@pytest.mark.parametrize("marker_first", [True, False])
@pytest.mark.parametrize("marker", ["d/.wh.a", ".wh.d", "d/.wh..wh..opq", ".wh..wh..opq"])
def test_a_marker_does_not_touch_its_own_layer_wherever_it_stands(marker: str, marker_first: bool) -> None:
    lower = archive_layer({"d/a": b"old", "d/b": b"old"})
    entries = [("d/a", b"new"), (marker, b"")]
    upper = archive_layer(entries[::-1] if marker_first else entries)

    found = contents(lower, upper)

    assert found.pop("d/a") == b"new"
    assert found == ({"d/b": b"old"} if marker == "d/.wh.a" else {})


def test_an_opaque_directory_hides_lower_layers_at_any_depth_and_nothing_beside_it() -> None:
    lower = archive_layer({"d/a": b"1", "d/e/f/g": b"2", "dx": b"3", "x/d/a": b"4"})
    upper = archive_layer({"d/e/new": b"5", "d/.wh..wh..opq": b""})

    assert contents(lower, upper) == {"dx": b"3", "x/d/a": b"4", "d/e/new": b"5"}


def test_nested_opaque_directories_each_hide_their_own() -> None:
    lower = archive_layer({"d/a": b"1", "d/e/b": b"2", "d/f/c": b"3"})
    upper = archive_layer({"d/e/.wh..wh..opq": b"", "d/e/x": b"4", "d/f/y": b"5"})
    top = archive_layer({"d/f/.wh..wh..opq": b"", "d/.wh.a": b""})

    assert contents(lower, upper, top) == {"d/e/x": b"4"}


def test_a_whiteout_of_nothing_and_malformed_markers_change_nothing() -> None:
    lower = archive_layer({"a": b"1"})
    upper = archive_layer({".wh.nothing": b"", "no/dir/.wh.x": b"", ".wh.": b"", ".wh..": b"", ".wh..wh.plnk": b""})

    assert contents(lower, upper) == {"a": b"1"}


def test_a_file_comes_back_after_a_whiteout() -> None:
    assert contents(archive_layer({"a": b"1"}), archive_layer({".wh.a": b""}), archive_layer({"a": b"2"})) == {
        "a": b"2"
    }


@pytest.mark.parametrize("kind", ["file", "symbolic link"])
def test_what_is_not_a_directory_hides_all_that_was_below_it(kind: str) -> None:
    lower = archive_layer({"d/a": b"1", "d/e/b": b"2"})
    upper = archive_layer([("d", b"now a file")] if kind == "file" else [symbolic_link("d", "/elsewhere")])

    found = contents(lower, upper, allow_empty=True)

    assert found == ({"d": b"now a file"} if kind == "file" else {})


@pytest.mark.parametrize("implied", [True, False])
def test_a_directory_replaces_a_file(implied: bool) -> None:
    lower = archive_layer({"d": b"a file", "x": b"1"})
    upper = archive_layer([("d/a", b"2")] if implied else [directory("d")])

    assert contents(lower, upper) == ({"x": b"1", "d/a": b"2"} if implied else {"x": b"1"})


def test_a_path_through_a_symbolic_link_is_not_followed() -> None:
    lower = archive_layer([symbolic_link("d", "../../etc"), ("e/f", b"1")])

    assert contents(lower, archive_layer({"d/passwd": b"2"})) == {"e/f": b"1", "d/passwd": b"2"}


def test_a_later_entry_of_a_name_replaces_the_earlier_in_one_archive() -> None:
    assert contents(archive_layer([("a", b"1"), ("b", b"2"), ("a", b"3")])) == {"b": b"2", "a": b"3"}


def test_files_come_in_the_order_of_the_layers_and_their_entries() -> None:
    lower = archive_layer({"z": b"", "a": b"", "m/n": b""})
    upper = archive_layer({"b": b"", "a": b"new"})

    assert list(contents(lower, upper)) == ["z", "m/n", "b", "a"]


def test_many_markers_of_one_large_directory_cost_no_more_than_one() -> None:
    overlay: Overlay[int] = Overlay(lambda _name: None)
    for number in range(20_000):
        overlay.put(0, f"d/e/{number}", number)
        overlay.put(1, f"d/f/{number}", number)

    start = time.process_time()
    for _ in range(20_000):
        overlay.make_opaque(1, "d")
        overlay.take_away(1, "d/f")

    assert len(list(overlay)) == 20_000
    assert time.process_time() - start < 2


# The model: a plain dict of path parts, each layer applied by the specification's words, in two rounds.

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["file", "directory", "whiteout", "opaque"]), PATHS), min_size=1, max_size=6
)


def apply_layer(
    tree: dict[tuple[str, ...], bytes | None], layer: list[tuple[str, tuple[str, ...]]], mark: bytes
) -> None:
    """Removals first, since they mean lower layers only; then additions in order. None stands for a directory."""
    for kind, path in layer:
        for known in list(tree):
            below = known[: len(path)] == path
            if below and ((kind == "whiteout") or (kind == "opaque" and known != path)):
                del tree[known]
    for kind, path in layer:
        if kind not in ("file", "directory"):
            continue
        for length in range(1, len(path)):
            if tree.get(path[:length]) is not None:
                del tree[path[:length]]
            tree.setdefault(path[:length], None)
        if kind == "file":
            for known in [known for known in tree if known[: len(path)] == path]:
                del tree[known]
            tree[path] = mark
        elif tree.get(path, b"") is not None:
            tree[path] = None


@settings(max_examples=150, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=5))
def test_random_stacks_of_layers_come_out_as_the_model_says(stack: list[list[tuple[str, tuple[str, ...]]]]) -> None:
    tree: dict[tuple[str, ...], bytes | None] = {}
    layers = []
    for index, changes in enumerate(stack):
        mark = b"layer %d" % index
        apply_layer(tree, changes, mark)
        entries: list[tuple[str, bytes] | tarfile.TarInfo] = []
        for kind, path in changes:
            name = "/".join(path)
            if kind == "file":
                entries.append((name, mark))
            elif kind == "directory":
                entries.append(directory(name))
            elif kind == "whiteout":
                entries.append(("/".join([*path[:-1], ".wh." + path[-1]]), b""))
            else:
                entries.append((name + "/.wh..wh..opq", b""))
        layers.append(archive_layer(entries))

    expected = {"/".join(path): content for path, content in tree.items() if content is not None}

    assert contents(*layers, allow_empty=True) == expected
