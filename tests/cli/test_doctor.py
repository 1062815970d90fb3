"""`oci-sync doctor`: every step from the reference to the first blob, and no secret."""

import json
from pathlib import Path

import pytest

from connector.cli import execute
from tests.fakes.registry import PASSWORD, FakeRegistry


def test_a_healthy_registry_is_walked_to_its_first_blob(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"username": "ci", "password": PASSWORD}))
    with FakeRegistry(auth="bearer") as fake:
        fake.publish("org/app", "prod", {"a.yaml": b"a: 1\n"})

        code = execute(["doctor", fake.reference("org/app"), "--credentials", str(tmp_path / "c.json"), "-o", "json"])

    shown = capsys.readouterr().out
    rows = json.loads(shown)
    assert code == 0
    assert [row["step"] for row in rows] == [
        "reference",
        "credentials",
        "challenge",
        "token",
        "head",
        "manifest",
        "blob",
    ]
    assert PASSWORD not in shown
    assert "token-" not in shown


def test_it_is_the_first_blob_that_is_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeRegistry() as fake:
        published = fake.publish("org/app", "prod", {"first": b"x" * 5000, "small": b"y", "middle": b"z" * 50})

        assert execute(["doctor", fake.reference("org/app"), "-o", "json"]) == 0

        assert [seen.path.rpartition("/")[2] for seen in fake.requests if "/blobs/" in seen.path] == [
            published.layers[0]
        ]
    [row] = [row for row in json.loads(capsys.readouterr().out) if row["step"] == "blob"]
    assert published.layers[0] in row["seen"]


@pytest.mark.parametrize(
    ("on", "status", "reached", "reason"),
    [
        ("GET /v2/org/app/manifests/", 403, "head", "Forbidden"),
        ("/blobs/", 404, "manifest", "NotFound"),
        ("/manifests/", 500, "challenge", "ServerFailure"),
    ],
)
def test_a_failure_ends_the_walk_and_shows_how_far_it_went(
    capsys: pytest.CaptureFixture[str], on: str, status: int, reached: str, reason: str
) -> None:
    with FakeRegistry() as fake:
        fake.publish("org/app", "prod", {"a.yaml": b"a: 1\n"})
        fake.fail_next(status, on=on, times=2)

        code = execute(["doctor", fake.reference("org/app"), "-o", "json"])

    shown = capsys.readouterr()
    rows = json.loads(shown.out)
    assert code == 1
    assert (rows[-2]["step"], rows[-1]["result"]) == (reached, reason)
    assert f"({reason})" in shown.err


def test_a_tag_that_is_not_there_brings_the_tags_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeRegistry() as fake:
        fake.publish("org/app", "prod", {"a.yaml": b"a: 1\n"})
        fake.move_tag("org/app", "staging", fake.tags["org/app", "prod"])

        code = execute(["doctor", fake.reference("org/app", "prd")])

    assert code == 1
    assert "prod, staging" in capsys.readouterr().out
