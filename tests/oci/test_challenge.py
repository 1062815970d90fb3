"""Challenges: several headers, several in one header, quoting, and what is no challenge at all."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connector.oci.challenge import Challenge, parse_challenges

BEARER = Challenge("bearer", {"realm": "https://a.example/t", "service": "s", "scope": "repository:x:pull,push"})


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], []),
        ([""], []),
        (["Basic"], [Challenge("basic")]),
        (['Bearer realm="https://a.example/t",service="s",scope="repository:x:pull,push"'], [BEARER]),
        (['bearer  Realm = "https://a.example/t" , SERVICE=s, scope="repository:x:pull,push"'], [BEARER]),
        (
            ['Basic realm="r", Bearer realm="https://a.example/t"'],
            [Challenge("basic", {"realm": "r"}), Challenge("bearer", {"realm": "https://a.example/t"})],
        ),
        (['Negotiate, Basic realm="r"'], [Challenge("negotiate"), Challenge("basic", {"realm": "r"})]),
        (
            ['Basic realm="r"', 'Bearer realm="x"'],
            [Challenge("basic", {"realm": "r"}), Challenge("bearer", {"realm": "x"})],
        ),
        (
            [r'Basic realm="a \"quoted\" one, with comma"'],
            [Challenge("basic", {"realm": 'a "quoted" one, with comma'})],
        ),
        (['Basic realm="first", realm="second"'], [Challenge("basic", {"realm": "first"})]),
        (['Basic realm="never closed'], [Challenge("basic")]),
        ([',,, Basic realm="r" ,,,'], [Challenge("basic", {"realm": "r"})]),
        (['\x01\x02, Basic realm="r"'], [Challenge("basic", {"realm": "r"})]),
        (['realm="no scheme", Basic realm="r"'], [Challenge("basic", {"realm": "r"})]),
        (
            ['Digest qop="auth", nonce=abc=, Bearer realm="x"'],
            [Challenge("digest", {"qop": "auth", "nonce": "abc="}), Challenge("bearer", {"realm": "x"})],
        ),
    ],
)
def test_challenges_are_found_in_their_order(headers: list[str], expected: list[Challenge]) -> None:
    assert list(parse_challenges(headers)) == expected


def test_a_flood_of_challenges_is_cut() -> None:
    assert len(parse_challenges(["Basic, " * 100_000] * 50)) == 20


@example(["Bearer"])
@example(['Bearer realm="'])
@example(['Bearer realm="\\'])
@example(["Bearer realm=,"])
@example(["=x, Basic"])
@example(["Bearer realm=https://[x"])
@example(['Basic realm="a" Bearer realm="b"'])
@given(st.lists(st.text(alphabet='Bearer basic=",\\ \t;realm:x\x00é', max_size=80), max_size=4))
def test_any_headers_give_challenges_and_never_an_error(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(alphabet='a",\\ =', max_size=10), max_size=4)
)
def test_what_is_quoted_by_the_rules_is_read_back(parameters: dict[str, str]) -> None:
    quoted = ", ".join(
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"')) for name, value in parameters.items()
    )

    assert list(parse_challenges([f"Bearer {quoted}"])) == [Challenge("bearer", parameters)]
