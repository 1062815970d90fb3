"""YAML with places, and what hostile or mistaken files get."""

import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.config.problem import ConfigProblems
from connector.config.yaml_lines import MAX_BYTES, MAX_NODES, parse_yaml, read_yaml
from connector.errors import ConfigError


def refused(data: bytes) -> str:
    with pytest.raises(ConfigProblems) as caught:
        parse_yaml(data, "f.yaml")
    assert caught.value.reason == "BadYaml"
    return str(caught.value.problems[0])


def test_values_are_those_of_yaml_1_2_and_not_of_1_1() -> None:
    text = b"[no, on, 012, 30:30, 0o17, 0x1F, 1.5, 1e3, ~, true, 2020-01-01, '7', 1_000, +3]"

    assert parse_yaml(text, "f").plain() == [
        "no", "on", 12, "30:30", 15, 31, 1.5, 1000.0, None, True, "2020-01-01", "7", "1_000", 3,
    ]  # fmt: skip


def test_a_number_too_long_for_anything_stays_text() -> None:
    digits = "9" * 5000

    assert parse_yaml(f"a: {digits}".encode(), "f").plain() == {"a": digits}


def test_each_key_and_value_remembers_its_line_and_column() -> None:
    document = parse_yaml(b"a: 1\nb:\n  - x\n  - y: deep\n", "f.yaml")

    assert str(document.problem(("b", 1, "y"), "BadValue", "m")) == "f.yaml:4:8: m"
    assert str(document.problem(("b", 1, "y"), "BadValue", "m", at_key=True)) == "f.yaml:4:5: m"
    assert str(document.problem(("b", 1, "absent", 7), "BadValue", "m")) == "f.yaml:4:5: m"


def test_a_byte_order_mark_windows_line_ends_and_unicode_are_read() -> None:
    document = parse_yaml("\ufeffname: größe 🎉\r\nnext: 2\r\n".encode(), "f.yaml")

    assert document.plain() == {"name": "größe 🎉", "next": 2}
    assert document.root.keys["next"] == (2, 1)


@pytest.mark.parametrize("text", [b"", b"\n\n", b"# only a comment\n", b"---\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_nothing_rather_than_an_accident(text: bytes) -> None:
    assert parse_yaml(text, "f").plain() is None


def test_anchors_aliases_and_merge_keys_work_and_own_keys_win() -> None:
    text = b"x-retry: &r {max_attempts: 3, initial_backoff: 1s}\na: *r\nb: {<<: *r, max_attempts: 5}\n"

    plain = parse_yaml(text, "f").plain()

    assert plain["a"] == {"max_attempts": 3, "initial_backoff": "1s"}
    assert plain["b"] == {"max_attempts": 5, "initial_backoff": "1s"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: 1\na: 2", "f.yaml:2:1: 'a' stands twice; it is already at line 1"),
        (b"a:\n\t- b", "f.yaml:2:1: a tab where YAML wants spaces; indent with spaces"),
        (b"a: *x", "f.yaml:1:4: alias '*x' has no anchor above it"),
        (b"&a [*a]", "f.yaml:1:5: alias '*a' has no anchor above it"),
        (b"--- a\n--- b", "f.yaml:2:1: a second document starts here; one file holds one"),
        (b"a: \x00", "f.yaml:1:4: a character that YAML does not allow; remove it"),
        (b"ok: 1\nbad: \xff", "f.yaml:2:6: is not UTF-8 text"),
        (b"a: !!python/object x", "f.yaml:1:4: tag 'tag:yaml.org,2002:python/object' is not supported here"),
        (b"a: !!python/object {b: 1}", "f.yaml:1:4: tag 'tag:yaml.org,2002:python/object' is not supported"),
        (b"<<: 3", "f.yaml:1:1: `<<` takes a mapping, or a list of mappings"),
        (b'a: "\\UFFFFFFFF"', "f.yaml: the YAML parser gave up on it (OverflowError)"),
        (b"- " * 200, "f.yaml:1:101: nested deeper than 50 levels"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(data: bytes, message: str) -> None:
    assert refused(data) == message


def test_an_unquoted_template_gets_the_hint_to_quote_it() -> None:
    assert 'a value that starts with "{{" must stand in quotes' in refused(b"url: {{env.NATS_URL}}")


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    rows = [b"a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]".encode() for n in range(1, 9)]
    start = time.monotonic()

    message = refused(b"\n".join(rows))

    assert message == f"f.yaml: its aliases expand to more than {MAX_NODES} values or 50 levels"
    assert time.monotonic() - start < 0.5


def test_aliases_cannot_nest_deeper_than_text_could() -> None:
    rows = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200))]

    assert "50 levels" in refused("\n".join(rows).encode())


def test_ten_megabytes_are_refused_without_being_parsed(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"a: 1\n" * 2_000_000)
    start = time.monotonic()

    with pytest.raises(ConfigError, match=f"larger than {MAX_BYTES // 1024} KiB"):
        read_yaml(path)

    assert time.monotonic() - start < 0.5


@pytest.mark.parametrize("name", ["absent.yaml", "", "a\0b"])
def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / name)

    assert caught.value.reason == "FileUnreadable"


@given(st.binary(max_size=200) | st.text(alphabet="{}[]:,-&*!|>'\"%@`#?<\\ \n\tax1~.", max_size=80).map(str.encode))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_values_or_a_config_error(data: bytes) -> None:
    with suppress(ConfigError):
        parse_yaml(data, "f.yaml").plain()


def test_mappings_that_are_merged_again_and_again_are_counted() -> None:
    base = "base: &b {" + ", ".join(f"k{number}: 1" for number in range(2_000)) + "}\n"
    text = base + "all: [" + ", ".join("{<<: *b}" for _ in range(2_000)) + "]\n"

    with pytest.raises(ConfigProblems, match="more than 100000 values, with those that"):
        parse_yaml(text.encode(), "the file")
