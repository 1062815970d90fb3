"""worker.yaml: defaults, mistakes, and what the environment may say instead."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from connector.config.problem import ConfigProblems
from connector.config.worker_file import Worker, load_worker, spool_directory
from connector.telemetry import SECRETS

OF_THE_DESIGN = """
kafka: {bootstrap.servers: "broker:9092"}
group: oci-sync
delivery: exactly_once
topics: {manage: create, partitions: 1, replication_factor: -1}
offsets: {topic: oci-sync-offsets, partitions: 50}
http: {address: "127.0.0.1:8090"}
spool: {directory: /var/lib/oci-sync, cache_size: 1GB}
schema_registry: {url: "http://registry:8081"}
registries:
  registry.example.com: {ca_file: ca.pem, client_cert: c.pem, client_key: k.pem, proxy: null, concurrency: 8,
                         requests_per_second: null, trusted_realms: []}
  "127.0.0.1:5000": {plain_http: true}
limits: {max_file_size: 10MB, max_total_size: 100MB, max_layers: 1000}
retry: {max_attempts: 10, initial_backoff: 1s}
"""


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Worker:
    path = folder / "worker.yaml"
    path.write_text(text)
    return load_worker(path, environ or {})


def problems(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigProblems) as caught:
        load(folder, text, environ)
    return "\n".join(f"{one.line}:{one.column}: {one.message} [{one.reason}]" for one in caught.value.problems)


def test_without_a_file_kafka_is_on_this_machine_and_nothing_listens() -> None:
    worker = load_worker(None, {})

    assert worker.bootstrap == "localhost:9092"
    assert worker.http.address is None
    assert worker.delivery == "exactly_once"


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "x-mine: 1\n"])
def test_a_file_that_says_nothing_means_the_defaults(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == load_worker(None, {})


def test_the_file_of_the_design_is_read_and_its_paths_start_beside_it(tmp_path: Path) -> None:
    worker = load(tmp_path, OF_THE_DESIGN)

    assert worker.bootstrap == "broker:9092"
    assert worker.registries["registry.example.com"].ca_file == tmp_path / "ca.pem"
    assert worker.registries["127.0.0.1:5000"].plain_http is True
    assert worker.limits.max_total_size == 100_000_000
    assert spool_directory(worker) == Path("/var/lib/oci-sync")


def test_properties_of_librdkafka_pass_through_and_a_list_of_servers_is_joined(tmp_path: Path) -> None:
    worker = load(tmp_path, "kafka: {bootstrap.servers: [a:9092, b:9092], linger.ms: 5, log.connection.close: false}")

    assert worker.kafka == {"bootstrap.servers": "a:9092,b:9092", "linger.ms": 5, "log.connection.close": False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kafka: {bootstrap: {servers: a}}", "1:20: kafka.bootstrap should be a text, a number or true or false"),
        ("kafka: {acks: 1}", "it is always 'all'"),
        ("groop: a", "1:1: unknown field 'groop': did you mean 'group'?"),
        ("partitions: 3", "`partitions` belongs to `topics` or `offsets`"),
        ("spool: {group: a}", "`group` belongs to the top of the worker file"),
        ("topics: {manage: maybe}", "topics.manage should be 'create' or 'check'; here is \"maybe\""),
        ("topics: 3", "1:9: topics should be a mapping; here is 3"),
        ("http: {address: '8090'}", "should be host:port"),
        ("http: {address: 'a:99999'}", "should be host:port"),
        ("limits: {max_file_size: 10 flops}", "should be a size such as 10MB"),
        ("registries: {r.example.com: {client_key: k.pem}}", "has client_key without client_cert"),
        ("registries: {'a b': {}}", "is not a host name"),
        ("registries: {r.example.com: {concurency: 3}}", "did you mean 'concurrency'?"),
        ("delivery: at_most_once", "delivery should be 'exactly_once'"),
        ("- a", "the file holds no mapping of settings"),
        ("group: 'a b'\nlimits: {max_layers: 0}", "2:22: limits.max_layers should be greater than or equal to 1"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert message in problems(tmp_path, text)


def test_no_secret_is_in_a_message_or_in_the_repr(tmp_path: Path) -> None:
    text = 'kafka: {sasl.password: "{{env.PW}}", x: }\ngroup: "{{env.PW}}!"\nschema_registry: {url: "u:{{env.PW}}@h"}\n'

    assert "hunter2" not in problems(tmp_path, text, {"PW": "hunter2hunter2"})
    assert "hunter2" not in repr(load(tmp_path, 'kafka: {sasl.password: "hunter2"}'))
    assert "pw" not in problems(tmp_path, 'schema_registry: {url: "ftp://me:pw@host"}')


PEM = "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkq\\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ('kafka: {sasl.password: "open-sesame-1"}', "open-sesame-1"),
        ("kafka: {sasl.password: 20261124}", "20261124"),
        ('kafka: {ssl.key.password: "open-sesame-2"}', "open-sesame-2"),
        ('kafka: {sasl.oauthbearer.client.secret: "open-sesame-3"}', "open-sesame-3"),
        (f'kafka: {{ssl.key.pem: "{PEM}"}}', "MIIEvQIBADANBgkq"),
        ('registries: {r.example.com: {proxy: "http://bob:open-sesame%2D4@proxy:3128"}}', "open-sesame-4"),
        ('registries: {r.example.com: {proxy: "http://bob:open-sesame%2D4@proxy:3128"}}', "open-sesame%2D4"),
        ('schema_registry: {url: "http://h", proxy: "http://bob:open-sesame-5@proxy:3128"}', "open-sesame-5"),
    ],
)
def test_a_secret_of_the_worker_file_is_shown_nowhere(tmp_path: Path, text: str, secret: str) -> None:
    load(tmp_path, text)

    assert SECRETS.redact(f"refused: {secret}") == "refused: ***"


def test_a_secret_of_the_environment_is_shown_nowhere() -> None:
    environ = {"OCI_SYNC_KAFKA_SASL_PASSWORD": "open-sesame-6", "https_proxy": "http://bob:open-sesame-7@proxy:3128"}

    load_worker(None, environ)

    assert SECRETS.redact("open-sesame-6 open-sesame-7") == "*** ***"


def test_a_file_that_holds_a_key_and_the_address_of_tokens_are_no_secrets(tmp_path: Path) -> None:
    address = "https://login.example.com/token"
    load(
        tmp_path, f"kafka: {{ssl.key.location: /etc/tls/client.key, sasl.oauthbearer.token.endpoint.url: '{address}'}}"
    )

    assert SECRETS.redact(f"/etc/tls/client.key {address}") == f"/etc/tls/client.key {address}"


@pytest.mark.parametrize(
    "text",
    [
        'schema_registry: {url: "bob:hunter22@h:4222"}',
        'schema_registry: {url: "http://bob:hunter22@h:4222"}',
        'schema_registry: {url: "http://bob:p@hunter22@h"}',
        'schema_registry: {url: "http://bob:p/hunter22@h"}',
        'schema_registry: {url: "bob:p/hunter22@h"}',
        'schema_registry: {url: "http://h", proxy: "bob:hunter22@h:3128"}',
        'registries: {r.example.com: {proxy: "bob:hunter22@h:3128"}}',
        'registries: {r.example.com: {proxy: "bob:x://hunter22@h:3128"}}',
        'registries: {r.example.com: {concurrency: "bob:hunter22@h:3128"}}',
    ],
)
def test_the_user_of_an_address_is_in_no_message_whatever_the_password_is_made_of(tmp_path: Path, text: str) -> None:
    found = problems(tmp_path, text)

    assert "hunter22" not in found
    assert "bob" not in found


def test_an_undefined_variable_is_a_problem_of_its_line(tmp_path: Path) -> None:
    found = problems(tmp_path, 'kafka: {sasl.password: "{{env.KAFKA_PW}}"}', {"KAFKA_PWD": "x"})

    assert found == "1:24: environment variable KAFKA_PW is not set: did you mean KAFKA_PWD? [UnknownVariable]"


def test_the_environment_wins_over_the_file_and_an_empty_variable_is_none(tmp_path: Path) -> None:
    environ = {"OCI_SYNC_KAFKA_BOOTSTRAP_SERVERS": "k:1", "OCI_SYNC_GROUP": "", "OCI_SYNC_HTTP_ADDRESS": "[::1]:80"}

    worker = load(tmp_path, "group: g\nkafka: {bootstrap.servers: a:1, linger.ms: 5}", environ)

    assert worker.kafka == {"bootstrap.servers": "k:1", "linger.ms": 5}
    assert (worker.group, worker.http.address) == ("g", "[::1]:80")


def test_what_kubernetes_injects_for_a_service_of_our_name_is_not_taken_for_settings() -> None:
    environ = {"OCI_SYNC_KAFKA_PORT": "tcp://10.0.0.1:9092", "OCI_SYNC_KAFKA_SERVICE_HOST": "10.0.0.1"}

    assert load_worker(None, environ) == load_worker(None, {})


def test_a_mistake_in_the_environment_names_the_variable_and_not_its_value() -> None:
    with pytest.raises(ConfigProblems) as caught:
        load_worker(None, {"OCI_SYNC_GROUP": "not a name"})

    assert str(caught.value.problems[0]).startswith("environment variable OCI_SYNC_GROUP: group should consist of")
    assert "not a name" not in str(caught.value)


def test_the_spool_goes_where_the_user_may_write(tmp_path: Path) -> None:
    worker = load_worker(None, {})

    chosen = spool_directory(worker, {"XDG_STATE_HOME": str(tmp_path)})

    assert chosen in (Path("/var/lib/oci-sync"), tmp_path / "oci-sync")
    assert spool_directory(load_worker(None, {"OCI_SYNC_SPOOL_DIRECTORY": str(tmp_path)})) == tmp_path
