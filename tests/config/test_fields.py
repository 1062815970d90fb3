"""What the reading of any file promises of its secrets."""

from pathlib import Path

import pytest

from connector.config.fields import passwords_in, without_user
from connector.config.flow_file import load_flow
from connector.errors import ConfigError
from connector.telemetry import SECRETS

FLOW = """\
flow:
  name: f
  tasks:
    - generate: {name: tick, interval: 30s}
    - oci_sync: {name: pull, artifact: "r.example.com/o/f:prod"}
    - buffer: {name: whole}
    - diff: {name: all, owns: ["f"], routes: [{match: ".", key: "f{{ path }}"}]}
"""


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("nats://h:4222", "nats://h:4222"),
        ("nats://bob:hunter22@h:4222", "nats://***@h:4222"),
        ("bob:hunter22@h:4222", "***@h:4222"),
        ("nats://bob:p@ssw0rd@h:4222", "nats://***@h:4222"),
        ("redis://:p/ss@h/0", "redis://***@h/0"),
        ("bob:x://y@h", "***@h"),
        ("nats://a:b@h1,nats://c:d@h2", "nats://***@h2"),
    ],
)
def test_an_address_is_shown_without_its_user(address: str, shown: str) -> None:
    assert without_user(address) == shown


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("http://bob:open%20sesame@h", ["open%20sesame", "open sesame"]),
        ("http://bob:p@ss@h", ["p@ss", "p@ss"]),
        ("http://h:3128", []),
        ("http://[h", []),
    ],
)
def test_the_password_of_an_address_is_found_as_written_and_as_meant(address: str, found: list[str]) -> None:
    assert passwords_in(address) == found


@pytest.mark.parametrize(
    "store",
    [
        'nats_kv_store: {name: s, bucket: b, url: "bob:hunter22@h:4222"}',
        'nats_kv_store: {name: s, bucket: b, url: "nats://bob:p@hunter22@h:4222"}',
        'redis_store: {name: s, url: "redis://bob:p/hunter22@h"}',
        'redis_store: {name: s, url: "bob:p/hunter22@h"}',
    ],
)
def test_the_user_of_a_stores_address_is_in_no_message(tmp_path: Path, store: str) -> None:
    (tmp_path / "f.yaml").write_text(f"{FLOW}    - {store}\n")

    with pytest.raises(ConfigError) as caught:
        load_flow(tmp_path / "f.yaml", None, {})

    assert "url" in str(caught.value)
    assert "hunter22" not in str(caught.value)
    assert "bob" not in str(caught.value)


def test_a_reference_with_a_digest_is_shown_whole(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(FLOW.replace("r.example.com/o/f:prod", "r.example.com/o/F@sha256:ab"))

    with pytest.raises(ConfigError, match=r"here is .r\.example\.com/o/F@sha256:ab"):
        load_flow(tmp_path / "f.yaml", None, {})


def test_the_password_of_a_stores_own_cluster_is_shown_nowhere(tmp_path: Path) -> None:
    kafka = '{bootstrap.servers: "b:9092", sasl.password: "{{env.PW}}"}'
    (tmp_path / "f.yaml").write_text(f"{FLOW}    - kafka_topic_store: {{name: s, topic: t, kafka: {kafka}}}\n")

    load_flow(tmp_path / "f.yaml", None, {"PW": "open-sesame-8"})

    assert SECRETS.redact("open-sesame-8") == "***"
    assert SECRETS.redact("{{env.PW}}") == "{{env.PW}}"
