"""The credentials of one file over time: read when it changes, kept while it cannot be read; helpers bounded."""

import asyncio
import json
import logging
import os
import stat
from pathlib import Path

import pytest

from connector.errors import CredentialsError
from connector.oci.credential_helpers import docker
from connector.oci.credentials import Credentials
from connector.oci.helper_answers import HelperAnswers
from connector.oci.reference import parse_reference
from tests.fakes.clock import FakeClock

APP = parse_reference("r.example/org/app")


def write(path: Path, document: object) -> None:
    """Replace the file as Kubernetes does: whole, under a new inode."""
    fresh = path.with_suffix(".fresh")
    fresh.write_text(document if isinstance(document, str) else json.dumps(document))
    fresh.replace(path)


def helper(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\necho asked >> {folder}/asked\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


async def password(credentials: Credentials, *, anew: bool = False) -> str | None:
    [found] = await credentials.candidates(APP, anew=anew)
    return None if found.password is None else found.password.reveal()


async def test_without_a_file_everything_is_anonymous() -> None:
    assert await Credentials(None).candidates(APP) == ()


async def test_a_rotated_secret_needs_no_restart(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    write(path, {"username": "u", "password": "first"})
    credentials = Credentials(path)
    assert await password(credentials) == "first"

    write(path, {"username": "u", "password": "later"})

    assert await password(credentials) == "later"


@pytest.mark.parametrize("broken", ['{"username": "u", "pass', "", "[]"])
async def test_a_half_written_file_leaves_the_last_good_credentials_and_warns_once(
    tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "c.json"
    write(path, {"username": "u", "password": "hush-hush"})
    credentials = Credentials(path)
    await credentials.candidates(APP)

    write(path, broken)
    with caplog.at_level(logging.WARNING):
        assert await password(credentials) == "hush-hush"
        assert await password(credentials) == "hush-hush"
    assert len(caplog.records) == 1
    assert "hush-hush" not in caplog.text

    write(path, {"username": "u", "password": "new"})
    assert await password(credentials) == "new"


async def test_a_file_that_vanishes_leaves_the_last_good_credentials(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    write(path, {"username": "u", "password": "p"})
    credentials = Credentials(path)
    await credentials.candidates(APP)

    path.unlink()

    assert await password(credentials) == "p"


@pytest.mark.parametrize("kind", ["missing", "folder", "garbage", "large"])
async def test_a_file_that_was_never_good_is_an_error_that_names_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "c.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "garbage":
        path.write_text('{"username": "u", "password": "hush-hush", "oops"}')
    elif kind == "large":
        path.write_text(" " * (2 << 20))

    with pytest.raises(CredentialsError) as caught:
        await Credentials(path).candidates(APP)

    assert caught.value.reason == "CredentialsUnreadable"
    assert str(path) in str(caught.value)
    assert "hush-hush" not in str(caught.value)


async def test_a_broken_entry_of_this_registry_is_an_error_and_of_another_none(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    write(path, {"auths": {"r.example": {"auth": "hush-hush!"}}})

    with pytest.raises(CredentialsError, match=r"r\.example") as caught:
        await Credentials(path).candidates(APP)
    assert "hush-hush" not in str(caught.value)
    assert await Credentials(path).candidates(parse_reference("other.example/app")) == ()


async def test_a_helper_is_asked_once_until_its_answer_is_old_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    helper(
        tmp_path, "test", """read key; echo "{\\"Username\\": \\"u\\", \\"Secret\\": \\"for $key\\"}" """, monkeypatch
    )
    write(tmp_path / "c.json", {"credHelpers": {"r.example": "test"}})
    credentials = Credentials(tmp_path / "c.json", HelperAnswers(clock))

    assert await password(credentials) == "for r.example"
    assert await password(credentials) == "for r.example"
    assert (tmp_path / "asked").read_text().count("asked") == 1

    clock.advance(901)
    await password(credentials)
    clock.advance(6)
    await password(credentials, anew=True)
    assert (tmp_path / "asked").read_text().count("asked") == 3


async def test_a_helper_is_started_once_for_all_sources_that_need_it_in_one_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    helper(tmp_path, "test", """echo '{"Username": "u", "Secret": "s"}'""", monkeypatch)
    write(tmp_path / "c.json", {"credHelpers": {"r.example": "test"}})
    answers = HelperAnswers(clock)
    sources = [Credentials(tmp_path / "c.json", answers) for _ in range(20)]

    assert await asyncio.gather(*(password(source) for source in sources)) == ["s"] * 20
    assert (tmp_path / "asked").read_text().count("asked") == 1

    clock.advance(60)
    await asyncio.gather(*(password(source, anew=True) for source in sources))
    for source in sources:
        await password(source, anew=True)
    assert (tmp_path / "asked").read_text().count("asked") == 2


async def test_a_helper_that_fails_is_started_once_for_all_who_wait_and_again_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    helper(tmp_path, "test", "exit 3", monkeypatch)
    write(tmp_path / "c.json", {"credHelpers": {"r.example": "test"}})
    answers = HelperAnswers(clock)
    sources = [Credentials(tmp_path / "c.json", answers) for _ in range(5)]

    ends = await asyncio.gather(*(password(source) for source in sources), return_exceptions=True)

    assert [type(end) for end in ends] == [CredentialsError] * 5
    assert (tmp_path / "asked").read_text().count("asked") == 1
    with pytest.raises(CredentialsError):
        await password(sources[0])
    assert (tmp_path / "asked").read_text().count("asked") == 2


async def test_a_helper_that_knows_nothing_means_anonymous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, "test", "echo credentials not found in native keychain; exit 1", monkeypatch)

    assert await docker.credential("test", "r.example") is None


async def test_a_helper_may_give_a_refresh_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, "test", """echo '{"Username": "<token>", "Secret": "refresh"}'""", monkeypatch)

    found = await docker.credential("test", "r.example")

    assert found is not None
    assert found.identity_token is not None
    assert (found.identity_token.reveal(), found.password) == ("refresh", None)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo hush-hush", "did not print JSON"),
        ("echo '[]'", "no Username and Secret"),
        ("""echo '{"Username": 1, "Secret": "hush-hush"}'""", "no Username and Secret"),
        ("echo hush-hush; exit 3", "exit code 3"),
        ("head -c 200000 /dev/zero", "more than"),
        ("exec sleep 30", "did not end"),
    ],
)
async def test_a_helper_that_misbehaves_is_bounded_and_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    helper(tmp_path, "test", script, monkeypatch)

    with pytest.raises(CredentialsError, match=says) as caught:
        await docker.credential("test", "r.example", max_seconds=0.2)

    assert caught.value.reason == "HelperFailed"
    assert "hush-hush" not in str(caught.value)


async def test_a_helper_that_is_not_installed_is_named() -> None:
    with pytest.raises(CredentialsError, match="docker-credential-nobody-has-this"):
        await docker.credential("nobody-has-this", "r.example")


async def test_what_is_not_needed_may_fail(tmp_path: Path) -> None:
    """A good entry, beside a store that is not installed and an entry that cannot be read."""
    path = tmp_path / "config.json"
    good, bad = {"username": "u", "password": "p"}, {"auth": "!!!"}
    auths = {"r.example/org": good, "r.example": bad}
    path.write_text(json.dumps({"auths": auths, "credsStore": "nobody-has-this"}))
    credentials = Credentials(path)

    (candidate,) = await credentials.candidates(parse_reference("r.example/org/app"))
    assert candidate.username == "u"
    with pytest.raises(CredentialsError, match="r\\.example"):
        await credentials.candidates(parse_reference("r.example/other/app"))
    with pytest.raises(CredentialsError, match="nobody-has-this"):
        await credentials.candidates(parse_reference("elsewhere.example/app"))
