"""Templates: strict, bounded, and blind to everything but their values."""

import json
import time

import pytest

from connector.config.template import compile_template, variables_of
from connector.errors import ConfigError, SinkError


def render(text: str, **values: object) -> str:
    return compile_template(text).render("making a key", **values)


def test_a_key_is_made_from_the_content_of_a_file() -> None:
    key = render("flowgen.flows.{{ (content | from_yaml).flow.name }}", content="flow: {name: billing, on: no}")

    assert key == "flowgen.flows.billing"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{ path | basename | without_extension }}", "b"),
        ("{{ path | dirname }}", "a"),
        ("{{ 'x' | sha256 }}", "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"),
        ("{{ '{\"k\": [1]}' | from_json | to_json }}", '{"k":[1]}'),
        ("{{ path | regex_match('^a/.*[.]yaml$') }}", "True"),
        ("{{ path | regex_match('z') }}", "False"),
        ("{{ event.data.key }}", "k"),
        ("{{ path | replace('/', '.') }}", "a.b.yaml"),
        ("{{ '<&>' }}", "<&>"),
        ("plain", "plain"),
    ],
)
def test_filters_do_what_their_names_say(text: str, result: str) -> None:
    assert render(text, path="a/b.yaml", event={"data": {"key": "k"}}).lower() == result.lower()


def test_an_undefined_value_is_an_error_that_names_it() -> None:
    with pytest.raises(SinkError, match=r"`content.flow.nmae` is undefined") as caught:
        render("{{ content.flow.nmae }}", content={"flow": {"name": "x"}})

    assert caught.value.reason == "TemplateFailed"
    assert caught.value.doing == "making a key"


@pytest.mark.parametrize("text", ["{{ a", "{{ a | nope }}", "{% if a %}", "{{ ( }}", "{{ " + "(" * 5000, "x" * 10_001])
def test_a_template_that_does_not_compile_is_found_before_anything_runs(text: str) -> None:
    with pytest.raises((ConfigError, SinkError)):
        render(text, a="x")


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'x' * 1000000000 }}",
        "{{ '%1000000000d' | format(1) }}",
        "{% for a in range(90000) %}{% for b in range(90000) %}x{% endfor %}{% endfor %}",
        "{% for a in range(1000) %}{{ content }}{% endfor %}",
        "{% set a = 'xxxxxxxxxxxxxxxx' %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}",
        "{{ content | regex_match('(a+)+$') }}{{ nope }}",
        "{{ ('[' * 5000) | from_yaml }}",
        "{{ ('[' * 100000) | from_json }}",
        "{{ debug() }}",
        "{{ content.__class__.__mro__ }}",
        "{% include '/etc/passwd' %}",
        "{{ 3 | basename }}",
    ],
)
def test_a_hostile_template_ends_soon_and_gets_nothing(text: str) -> None:
    start = time.monotonic()

    with pytest.raises(SinkError) as caught:
        render(text, content="a" * 50_000 + "!")

    assert caught.value.reason == "TemplateFailed"
    assert time.monotonic() - start < 2


def test_the_largest_file_allowed_passes_through_a_template() -> None:
    content = "y" * 10_000_000

    assert render("{{ event.content }}", event={"content": content}) == content


@pytest.mark.parametrize("text", ["{{ content | from_yml }}", "{{ (a if b else c | from_yml).d }}"])
def test_a_misspelt_filter_is_found_when_the_file_is_read(text: str) -> None:
    with pytest.raises(ConfigError, match="unknown filter 'from_yml': did you mean 'from_yaml'"):
        compile_template(text)


@pytest.mark.parametrize(
    "text", ["{{ 'a | nope' }}", "{{ a | upper | default('|nope') }}", "a | nope", "{{ a|length }}"]
)
def test_a_bar_in_a_text_is_no_filter_and_those_of_jinja_are_known(text: str) -> None:
    assert compile_template(text).text == text


def test_a_template_tells_which_values_it_asks_for() -> None:
    assert variables_of(compile_template("{{ path }}{{ content | from_yaml }}")) == {"path", "content"}


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("{{ (content | from_yaml).get('name') }}", "[1]"),
        ("{{ (content | from_yaml).x | from_yaml }}", "x: 5"),
        ("{{ (content | from_json).keys() }}", "[1]"),
        ("{{ (content | from_yaml).items }}", "a: 1"),
        ("{{ (content | from_yaml).pop('a') }}", "a: 1"),
        ("{{ (content | from_yaml).extend([1]) }}", "[1]"),
        ("{{ (content | from_yaml).f.format(1) }}", "f: '{:>2000000000}'"),
        ("{{ '{:>2000000000}'.format(1) }}", ""),
        ("{{ [1] | tojson(indent=1000000000) }}", ""),
        ("{{ 7 | basename }}", ""),
        ("{{ content | regex_match(7) }}", ""),
        ("{{ (content | from_yaml).__class__ }}", "a: 1"),
    ],
)
def test_no_file_and_no_method_does_more_than_fail_its_template(text: str, content: str) -> None:
    template = compile_template(text)

    with pytest.raises(SinkError) as caught:
        template.render(content=content)

    assert caught.value.reason == "TemplateFailed"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{ d.name }} {{ d['name'] }} {{ d.list[0].a }}", "n n 1"),
        ("{{ d.items }} {{ d.get }}", "[1, 2] 5"),
        ("{{ d | length }} {{ 'name' in d }} {{ 2 in d.items }} {{ d.nothing is defined }}", "4 True True False"),
        ("{% for key, value in d.list[0] | items %}{{ key }}={{ value }}{% endfor %}", "a=1"),
        ("{{ d.items | join('-') }} {{ d.items | first }} {{ d.items | sum }} {{ d.items[-1] }}", "1-2 1 3 2"),
        ("{{ d.list | map(attribute='a') | list }} {{ d is mapping }} {{ d.items is sequence }}", "[1] True True"),
        ("{{ d.list | to_json }} {{ d.list | tojson }}", '[{"a":1}] [{"a":1}]'),
    ],
)
def test_items_are_there_whatever_their_names(text: str, result: str) -> None:
    d = {"name": "n", "items": [1, 2], "get": 5, "list": [{"a": 1}]}

    assert compile_template("{% set d = content | from_json %}" + text).render(content=json.dumps(d)) == result
    assert compile_template(text).render(d=d) == result


@pytest.mark.parametrize("text", ["{{ 'x' | indent(1000000000) }}", "{{ a | pprint }}", "{{ a | batch(2) }}"])
def test_a_filter_that_no_key_needs_and_a_large_file_may_misuse_is_refused_before_anything_runs(text: str) -> None:
    with pytest.raises(ConfigError):
        compile_template(text)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (
            "{{ 'a,b,c' | split(',') | last }} {{ 'a,b,c' | split(',', 1) | last }} {{ ' a  b ' | split | join('-') }}",
            "c b,c a-b",
        ),
        ("{{ 'a\r\nb\n' | lines | join('-') }}", "a-b"),
        ("{{ 'a b/c?é' | urlencode }} {{ 7 | urlencode }}", "a%20b/c%3F%C3%A9 7"),
        (
            "{{ 'abc' | length }} {{ [1, 2] | count }} {{ {'a': 1} | length }} {{ 'a,b' | split(',') | length }}",
            "3 2 1 2",
        ),
    ],
)
def test_filters_of_jinja_that_are_bounded_here_do_what_they_did(text: str, result: str) -> None:
    assert render(text) == result


def test_a_document_is_parsed_once_however_often_a_template_asks_it() -> None:
    content = "a: b\nlist: [" + "x, " * 15_000 + "x]"
    start = time.monotonic()
    render("{{ (content | from_yaml).a }}", content=content)
    once = time.monotonic() - start

    start = time.monotonic()
    render("{{ (content | from_yaml).a }}" * 20, content=content)

    assert time.monotonic() - start < 5 * once


def test_json_that_is_nested_as_deep_as_people_do_is_read() -> None:
    assert render("{{ content | from_json | to_json }}", content="[" * 300 + "]" * 300) == "[" * 300 + "]" * 300
