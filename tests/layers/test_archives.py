"""Archives as one view: directories that oras pushed, hard links, and what is no file."""

import gzip
import tarfile

import pytest

from tests.layers.artifacts import (
    END,
    TAR_GZIP,
    archive_layer,
    contents,
    directory,
    extract_files,
    failure,
    hard_link,
    header,
    layer,
    padded,
    special,
    symbolic_link,
    tar,
)

# Directories that oras pushed.


def test_a_pushed_directory_whose_entries_hold_its_name_does_not_get_it_twice() -> None:
    data = gzip.compress(tar([directory("flows"), ("flows/a", b"1"), ("flows/x/b", b"2")]))

    assert contents(layer(data, TAR_GZIP, title="flows", unpack="true")) == {"flows/a": b"1", "flows/x/b": b"2"}


def test_a_pushed_directory_whose_entries_do_not_hold_its_name_gets_it() -> None:
    data = gzip.compress(tar([("./a", b"1"), ("flows/b", b"2"), hard_link("c", "a")]))

    found = contents(layer(data, TAR_GZIP, title="etc/flows", unpack="true"))

    assert found == {"etc/flows/a": b"1", "etc/flows/flows/b": b"2", "etc/flows/c": b"1"}


def test_the_working_directory_pushed_as_a_dot_adds_no_name() -> None:
    data = gzip.compress(tar([directory("."), ("./a", b"1")]))

    assert contents(layer(data, TAR_GZIP, title=".", unpack="true")) == {"a": b"1"}


def test_an_entry_outside_of_the_pushed_directory_is_refused() -> None:
    data = gzip.compress(tar([directory("flows"), ("flows2/a", b"1")]))

    error = failure(layer(data, TAR_GZIP, title="flows", unpack="true"))

    assert error.reason == "UnsafePath"
    assert "outside of 'flows'" in str(error)


@pytest.mark.parametrize("title", ["/flows", "../flows", "a\x00"])
def test_a_pushed_directory_with_an_unsafe_name_is_refused(title: str) -> None:
    assert failure(layer(gzip.compress(tar({"a": b""})), TAR_GZIP, title=title, unpack="true")).reason == "UnsafePath"


# Links and special files.


def test_a_hard_link_has_the_content_of_an_earlier_entry() -> None:
    assert contents(archive_layer([("a", b"1"), hard_link("d/b", "./a"), hard_link("c", "/d/b")])) == {
        "a": b"1",
        "d/b": b"1",
        "c": b"1",
    }


def test_a_hard_link_reaches_a_lower_layer_and_names_its_own() -> None:
    upper = archive_layer([hard_link("b", "a")])

    first, second = extract_files(archive_layer({"a": b"1"}), upper)

    assert (first.path, second.path, second.content.read()) == ("a", "b", b"1")
    assert second.layer_digest == upper.descriptor.digest


def test_a_hard_link_keeps_its_content_when_its_target_is_replaced_or_taken_away() -> None:
    lower = archive_layer([("a", b"old"), hard_link("b", "a")])

    assert contents(lower, archive_layer({"a": b"new"})) == {"b": b"old", "a": b"new"}
    assert contents(lower, archive_layer({".wh.a": b""})) == {"b": b"old"}


@pytest.mark.parametrize(
    "entries",
    [
        [hard_link("a", "nowhere")],
        [hard_link("a", "b"), hard_link("b", "a")],
        [hard_link("a", "a")],
        [directory("d"), hard_link("a", "d")],
    ],
)
def test_a_hard_link_to_nothing_is_an_error(entries: list[tarfile.TarInfo]) -> None:
    archive: list[tuple[str, bytes] | tarfile.TarInfo] = [("x", b"1")]
    archive.extend(entries)

    error = failure(archive_layer(archive))

    assert error.reason == "BrokenArchive"
    assert "it is a hard link to" in str(error)
    assert "entry 'a'" in str(error)


def test_a_hard_link_out_of_the_tree_is_refused() -> None:
    assert failure(archive_layer([hard_link("a", "../../etc/passwd")])).reason == "UnsafePath"


def test_a_wanted_hard_link_to_a_file_that_is_not_wanted_has_its_content() -> None:
    lower = archive_layer([("store/1", b"one"), ("store/2", b"two"), ("other", b"x")])
    upper = archive_layer([hard_link("flows/a", "store/1"), hard_link("flows/b", "flows/a")])

    assert contents(lower, upper, include=("flows/**",)) == {"flows/a": b"one", "flows/b": b"one"}


def test_a_file_whose_name_ends_in_a_slash_keeps_its_content() -> None:
    assert contents(layer(header(b"a/", b"00000000001\x00") + padded(b"1") + END)) == {"a": b"1"}


def test_an_entry_of_unknown_type_hides_nothing() -> None:
    label = header(b"a", b"00000000000\x00", b"V")

    assert contents(archive_layer({"a/b": b"1"}), layer(label + END)) == {"a/b": b"1"}


def test_links_and_devices_are_left_out_with_one_counted_warning(caplog: pytest.LogCaptureFixture) -> None:
    entries: list[tuple[str, bytes] | tarfile.TarInfo] = [
        ("f", b"1"),
        symbolic_link("s", "/etc/passwd"),
        symbolic_link("t", "../../../etc"),
        special("p", b"6"),
        hard_link("h", "s"),
    ]

    assert contents(archive_layer(entries)) == {"f": b"1"}
    (message,) = [record.getMessage() for record in caplog.records]
    assert "2 × symbolic link, 1 × device or FIFO" in message
    assert "first of it 's'" in message
