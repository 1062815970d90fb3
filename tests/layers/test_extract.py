"""From layers to files: paths, duplicates, filters, text, limits, order, and what errors say."""

import gzip
import hashlib
import io
import time

import pytest

from connector.errors import LayerError
from connector.layers.extract import ExtractOptions, extract, needed_layers
from connector.oci.manifest import Descriptor
from tests.layers.artifacts import (
    TAR,
    TAR_GZIP,
    BuiltLayer,
    archive_layer,
    contents,
    directory,
    extract_files,
    failure,
    layer,
    tar,
)

YAML = "application/yaml"


def raw(title: str | None, data: bytes = b"text", media_type: str = YAML) -> BuiltLayer:
    return layer(data, media_type, title=title)


def test_a_file_carries_content_hash_layer_and_media_type() -> None:
    single = raw("a.yaml", b"a: 1\n")
    archive = archive_layer({"b.yaml": b"b: 2\n"})

    first, second = extract_files(single, archive)

    assert (first.path, first.content.read(), first.content.size_bytes) == ("a.yaml", b"a: 1\n", 5)
    assert first.content_hash == hashlib.sha256(b"a: 1\n").hexdigest()
    assert (first.layer_digest, first.media_type) == (single.descriptor.digest, YAML)
    assert (second.path, second.content.read()) == ("b.yaml", b"b: 2\n")
    assert second.content_hash == hashlib.sha256(b"b: 2\n").hexdigest()
    assert (second.layer_digest, second.media_type) == (archive.descriptor.digest, TAR_GZIP)


def test_a_sha512_layer_gets_the_sha256_of_its_content() -> None:
    (file,) = extract_files(layer(b"text", YAML, title="a", algorithm="sha512"))

    assert file.content_hash == hashlib.sha256(b"text").hexdigest()


def test_what_cannot_be_extracted_is_refused_before_anything_is_fetched() -> None:
    def refusal(*layers: BuiltLayer, **limits: int) -> str:
        with pytest.raises(LayerError) as caught:
            needed_layers([built.descriptor for built in layers], ExtractOptions(**limits))  # type: ignore[arg-type]
        return caught.value.reason + " " + caught.value.cause

    assert refusal(raw("../a")).startswith("UnsafePath")
    assert "4 bytes; the limit is 3" in refusal(raw("a"), max_file_size=3)
    assert "8 bytes; the limit is 7" in refusal(raw("a"), raw("b"), max_total_size=7)
    huge = Descriptor(TAR_GZIP, raw("a").descriptor.digest, 10**12)
    assert "the blobs have 1000000000000 bytes" in refusal(BuiltLayer(huge, raw("a").blob))


def test_one_blob_in_many_layers_comes_out_at_each_path() -> None:
    assert contents(raw("a"), raw("b"), raw("c/d")) == {"a": b"text", "b": b"text", "c/d": b"text"}


def test_empty_files_come_out() -> None:
    assert contents(raw("a", b""), archive_layer({"b": b""})) == {"a": b"", "b": b""}


def test_raw_and_archive_layers_keep_the_order_of_the_manifest() -> None:
    layers = [archive_layer({"x": b"", "y": b""}), raw("m"), archive_layer({"a": b"", "y": b"2"}), raw("b")]

    assert list(contents(*layers)) == ["x", "m", "a", "y", "b"]


@pytest.mark.parametrize("title", ["../x", "/etc/passwd", "C:\\x", "a\\b", "a\x00b", "a\nb", "", ".", "a/", "x" * 5000])
def test_an_unsafe_title_is_refused_and_shown(title: str) -> None:
    error = failure(raw(title))

    assert error.reason == "UnsafePath"
    assert "title" in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 600


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a\x01b", "x" * 5000])
def test_an_unsafe_entry_is_refused_and_shown(name: str) -> None:
    error = failure(archive_layer({"ok": b"", name: b""}))

    assert error.reason == "UnsafePath"
    assert "entry '" in str(error)


@pytest.mark.parametrize("name", ["./flows/a", "/flows/a", "flows//a", "flows/./a"])
def test_spellings_in_archives_come_out_as_one_path_and_replace_each_other_across_layers(name: str) -> None:
    assert contents(archive_layer({name: b"1"})) == {"flows/a": b"1"}
    assert contents(archive_layer({"flows/a": b"0"}), archive_layer({name: b"1"})) == {"flows/a": b"1"}


def test_of_one_name_the_last_entry_and_the_last_archive_hold_and_twins_in_case_are_two_files() -> None:
    first = layer(tar([("a", b"1"), ("b", b"1"), ("a", b"2")]), TAR)
    later = layer(tar([("b", b"3"), ("A", b"4")]), TAR)

    assert contents(first, later) == {"a": b"2", "b": b"3", "A": b"4"}
    assert failure(first, raw("a")).reason == "DuplicatePath"


def test_two_titles_with_one_canonical_path_are_an_error_that_names_both_layers() -> None:
    error = failure(raw("a/b", b"1"), raw("./a//b", b"2"))

    assert error.reason == "DuplicatePath"
    assert "layer 0 (" in str(error)
    assert "layer 1 (" in str(error)
    assert "'a/b'" in str(error)


@pytest.mark.parametrize("title_first", [True, False])
def test_a_title_and_a_path_of_an_archive_are_an_error(title_first: bool) -> None:
    layers = [raw("a"), archive_layer({"./a": b"1"})]

    assert failure(*(layers if title_first else layers[::-1])).reason == "DuplicatePath"


def test_two_spellings_of_one_path_in_one_archive_are_an_error() -> None:
    error = failure(archive_layer({"a": b"1", "./a": b"2"}))

    assert error.reason == "DuplicatePath"
    assert "entry './a'" in str(error)
    assert "spells the path 'a' otherwise" in str(error)


def test_paths_that_differ_only_in_case_or_unicode_form_are_two_files() -> None:
    names = ["A", "a", "\u00e9", "e\u0301"]

    assert list(contents(archive_layer(dict.fromkeys(names, b"")))) == names
    assert list(contents(*(raw(name) for name in names))) == names


# Filters.


def test_include_and_exclude_work_on_titles_and_entries_alike() -> None:
    layers = [raw("flows/a.yaml"), raw("README.md", b"m"), archive_layer({"flows/b.yaml": b"", "flows/c.md": b""})]

    assert list(contents(*layers, include=("flows/**",), exclude=("**/*.md",))) == ["flows/a.yaml", "flows/b.yaml"]


def test_layers_are_left_out_by_media_type_and_keep_their_numbers() -> None:
    layers = [raw(None, b"1", "text/plain"), raw(None, b"2", "application/yaml"), raw(None, b"3", "text/html")]

    assert contents(*layers, include_media_types=("text/*",), exclude_media_types=("*/html",)) == {"layer-0": b"1"}
    assert contents(*layers, exclude_media_types=("text/*",)) == {"layer-1": b"2"}


def test_only_needed_blobs_have_to_be_there() -> None:
    layers = [raw("a", b"1"), raw("b", b"2"), raw("c", b"3", "text/html"), archive_layer({"a": b"", "d": b"4"})]
    options = ExtractOptions(include=("a", "d"), exclude=("a",), exclude_media_types=("text/html",))
    descriptors = [built.descriptor for built in layers]

    needed = needed_layers(descriptors, options)

    assert needed == (layers[3].descriptor,)
    blobs = {built.descriptor.digest: built.blob for built in layers if built.descriptor in needed}
    assert [file.path for file in extract(descriptors, blobs, options, io.BytesIO())] == ["d"]


def test_filters_that_leave_nothing_are_an_error_that_names_them() -> None:
    error = failure(raw("a"), include=("flowz/**",))

    assert error.reason == "EmptyArtifact"
    assert "include" in str(error)
    assert contents(raw("a"), include=("flowz/**",), allow_empty=True) == {}


def test_an_artifact_without_layers_is_refused_unless_allowed() -> None:
    assert failure().reason == "EmptyArtifact"
    assert contents(allow_empty=True) == {}


# Text and not.


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (b"\xff\xfe", 0),
        (b"abc\x80", 3),
        ("ü".encode()[:1], 0),
        (b"x" * 300_000 + b"\xed\xa0\x80", 300_000),
        ("日".encode() * 100_000 + b"\xc0\x80", 300_000),
        (b"a" * 262_143 + "€".encode()[:2], 262_143),
        (b"a" * 262_143 + "€".encode()[:2] + b"x", 262_143),
    ],
)
@pytest.mark.parametrize("in_archive", [True, False])
def test_content_that_is_not_utf_8_is_an_error_that_says_where(data: bytes, at: int, in_archive: bool) -> None:
    error = failure(archive_layer({"bin": data}) if in_archive else raw("bin", data))

    assert error.reason == "NotText"
    assert f"byte {at} of {len(data)}" in str(error)
    assert "binary: base64" in error.remedy
    assert "'bin'" in str(error)


def test_text_of_any_length_and_script_is_text_across_the_borders_of_pieces() -> None:
    text = ("a" + "€" * 100_000 + "🙂\x00" * 1000).encode()

    assert contents(raw("a", text), archive_layer({"b": text})) == {"a": text, "b": text}


def test_binary_content_passes_or_is_left_out_as_the_task_says(caplog: pytest.LogCaptureFixture) -> None:
    layers = [raw("a", b"\xff"), raw("b"), archive_layer({"c": b"\xfe"})]

    files = extract_files(*layers, binary="base64")
    assert [(file.path, file.is_text) for file in files] == [("a", False), ("b", True), ("c", False)]
    assert contents(*layers, binary="skip") == {"b": b"text"}
    assert "left out 2 files that are not UTF-8" in caplog.text


def test_a_binary_that_is_hidden_or_not_wanted_is_no_error() -> None:
    lower = archive_layer({"bin/x": b"\xff", "a": b"1", "b": b"\xff"})

    assert contents(lower, archive_layer({".wh.bin": b"", "b": b"2"})) == {"a": b"1", "b": b"2"}
    assert contents(lower, exclude=("b*/**", "b")) == {"a": b"1"}


# Limits.


@pytest.mark.parametrize("in_archive", [True, False])
def test_a_file_of_just_the_limit_passes_and_one_byte_more_does_not(in_archive: bool) -> None:
    def built(size: int) -> BuiltLayer:
        return archive_layer({"f": b"x" * size}) if in_archive else raw("f", b"x" * size)

    assert contents(built(1000), max_file_size=1000) == {"f": b"x" * 1000}
    error = failure(built(1001), max_file_size=1000)
    assert error.reason == "TooLarge"
    assert "1001 bytes; the limit is 1000" in str(error)
    assert "limits.max_file_size (operator)" in error.remedy


def test_a_compressed_file_is_judged_by_what_comes_out() -> None:
    error = failure(layer(gzip.compress(bytes(10_000_000)), "application/json+gzip", title="a"), max_file_size=1000)

    assert error.reason == "TooLarge"
    assert "at least" in str(error)


def test_all_files_together_are_judged() -> None:
    layers = [raw("a", b"x" * 600), archive_layer({"b": b"y" * 600})]

    assert len(contents(*layers, max_total_size=1200)) == 2
    error = failure(*layers, max_total_size=1199)
    assert "1200 bytes; the limit is 1199" in str(error)
    assert "limits.max_total_size" in error.remedy


def test_a_giant_that_is_hidden_or_not_wanted_is_no_error() -> None:
    lower = archive_layer({"giant": b"x" * 5000, "a": b"1"})

    assert contents(lower, archive_layer({".wh.giant": b""}), max_file_size=100) == {"a": b"1"}
    assert contents(lower, exclude=("giant",), max_file_size=100) == {"a": b"1"}


def test_more_entries_than_allowed_are_refused_implied_directories_included() -> None:
    assert len(contents(archive_layer({"a": b"", "b": b""}), max_entries=2)) == 2
    assert len(contents(archive_layer([directory("d"), ("d/a", b""), directory("d")]), max_entries=2)) == 1
    assert "more than 2 files and directories" in str(failure(archive_layer({"a/b/c": b""}), max_entries=2))
    assert "limits.max_entries" in failure(archive_layer({"a": b""}), archive_layer({"b": b""}), max_entries=1).remedy


# What it costs, and what errors say.


def test_a_thousand_small_layers_cost_little_and_are_opened_once() -> None:
    layers = [raw(f"flows/{number}.yaml", b"%04d" % number * 1024) for number in range(1000)]

    start = time.process_time()
    files = extract_files(*layers)

    assert len(files) == 1000
    assert time.process_time() - start < 0.25
    assert all(len(built.blob.opened) == 1 for built in layers)


def test_an_error_names_layer_type_digest_entry_and_who_acts() -> None:
    built = layer(tar({"x/../../y": b""}), TAR)

    text = str(failure(raw("a"), built))

    assert f"extracting layer 1 ({TAR}, {built.descriptor.digest}), entry 'x/../../y'" in text
    assert "(publisher)" in text
