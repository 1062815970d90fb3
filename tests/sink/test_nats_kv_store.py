"""The NATS store's fields and credentials; what needs a server is in tests/system/test_sink_nats.py."""

import json
from pathlib import Path

import nkeys
import pytest
from pydantic import ValidationError

from connector.errors import CredentialsError
from connector.sink.nats_login import login
from connector.sink.tasks.nats_kv_store import Fields


@pytest.mark.parametrize("url", ["nats://user:hunter2@host:4222", "http://host", "host:4222", "nats://"])
def test_a_url_that_holds_credentials_or_is_none_is_refused_without_its_text(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Fields(name="kv", bucket="b", url=url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("bucket", ["", "a.b", "a b", "a/b", "x" * 201])
def test_a_bucket_that_nats_would_refuse_is_refused(bucket: str) -> None:
    with pytest.raises(ValidationError):
        Fields(name="kv", bucket=bucket)


def test_json_and_creds_files_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(json.dumps({"user": "u", "password": "p"}))
    assert login(path) == {"user": "u", "password": "p"}

    path.write_text(json.dumps({"token": "t"}))
    assert login(path) == {"token": "t"}

    seed = nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_USER).decode()
    path.write_text(
        "-----BEGIN NATS USER JWT-----\neyJ0.eyJq.c2ln\n------END NATS USER JWT------\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    assert login(path) == {"user_credentials": str(path)}


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"user": "u"}', b'{"token": 5}', b"\xff", b'{"a": "hunter2"}', b"-BEGIN NATS USER JWT-"]
)
def test_a_credentials_file_that_is_none_is_told_without_its_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    with pytest.raises(CredentialsError) as caught:
        login(path)

    assert caught.value.reason == "CredentialsUnreadable"
    assert "hunter2" not in str(caught.value)
