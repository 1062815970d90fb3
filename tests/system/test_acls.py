"""A cluster with an authorizer: what the product asks for is enough, none of it too much, and a refusal lists it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.system.product import Product, table_of
from tests.system.servers import GUARDED_USER, GuardedBroker, Oras, Registry

pytestmark = pytest.mark.system

PRINCIPAL = f"User:{GUARDED_USER}"
FILES = {"a.yaml": "a: 1\n", "b.yaml": "b: 1\n"}
KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
}
OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


class Right(NamedTuple):
    """One operation on one resource."""

    resource: str
    name: str
    is_prefixed: bool
    operation: str


def product_of(folder: Path, kafka: GuardedBroker, registry: Registry, name: str) -> Product:
    login = {**kafka.login, "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000}
    artifact = f"{registry.host}/{name}/flows:prod"
    return Product(folder, kafka.bootstrap, artifact, name, worker={"kafka": login})


@pytest.fixture
def product(tmp_path: Path, kafka_guarded: GuardedBroker, registry: Registry, oras: Oras, unique: str) -> Product:
    made = product_of(tmp_path, kafka_guarded, registry, unique)
    oras.push(made.artifact, FILES)
    return made


def rights_asked(product: Product) -> list[Right]:
    """What `topics acls` says the flow needs."""
    said = product.call("topics", "acls", "--principal", PRINCIPAL, "-o", "json", str(product.flow_file))
    assert said.returncode == 0, said.stderr
    rows: list[dict[str, Any]] = json.loads(said.stdout)
    return [
        Right(row["resource"], row["name"], row["is_prefixed"], operation)
        for row in rows
        for operation in row["operations"]
    ]


def grant(kafka: GuardedBroker, rights: Iterable[Right]) -> None:
    bindings = [
        AclBinding(
            KINDS[right.resource],
            right.name,
            ResourcePatternType.PREFIXED if right.is_prefixed else ResourcePatternType.LITERAL,
            PRINCIPAL,
            "*",
            OPERATIONS[right.operation],
            AclPermissionType.ALLOW,
        )
        for right in rights
    ]
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for future in admin.create_acls(bindings).values():
        future.result(10)


def test_what_is_asked_for_is_enough_for_both_halves(product: Product, kafka_guarded: GuardedBroker) -> None:
    text = json.loads(product.flow_file.read_text())
    text["flow"]["tasks"] += [
        {"buffer": {"name": "whole"}},
        {"diff": {"name": "all", "owns": ["f:"], "routes": [{"match": ".", "key": "f:{{ path }}"}]}},
        {"kafka_topic_store": {"name": "copy", "topic": f"copy-{product.name}"}},
    ]
    product.flow_file.write_text(json.dumps(text))

    refused = product.run_once()
    grant(kafka_guarded, rights_asked(product))
    ended = product.run_once()
    validated = product.call("validate", str(product.flow_file))

    assert refused.returncode == 1
    assert "NotAuthorized" in refused.stderr
    assert "oci-sync topics acls" in refused.stderr
    assert ended.returncode == 0, ended.stderr
    assert validated.returncode == 0, validated.stdout
    assert table_of(product.read()) == FILES
    copied = {record.key: record.value for record in product.read(f"copy-{product.name}")}
    assert copied == {f"f:{path}": content.encode() for path, content in FILES.items()}


@pytest.mark.parametrize(
    ("resource", "operation"),
    [
        ("group", "Read"),
        ("transactional-id", "Write"),
        ("topic offsets", "Create"),
        ("topic offsets", "Read"),
        ("topic offsets", "Write"),
        ("topic layers", "Create"),
        ("topic layers", "Write"),
    ],
)
def test_without_any_one_nothing_is_committed_and_the_refusal_says_how_to_list_them(
    product: Product, kafka_guarded: GuardedBroker, resource: str, operation: str
) -> None:
    asked = rights_asked(product)
    left_out = [
        right
        for right in asked
        if (right.operation, right.resource) == (operation, resource.partition(" ")[0])
        and (resource != "topic offsets" or right.name == product.offsets_topic)
        and (resource != "topic layers" or right.name == product.topic)
    ]
    assert len(left_out) == 1, asked
    grant(kafka_guarded, set(asked) - set(left_out))

    refused = product.run_once()

    assert refused.returncode == 1, refused.stderr
    assert "AUTHORIZATION_FAILED" in refused.stderr
    assert "oci-sync topics acls" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not product.exists() or product.read() == []


def test_settings_that_may_not_be_read_are_said_to_be_unchecked(product: Product, kafka_guarded: GuardedBroker) -> None:
    grant(kafka_guarded, [right for right in rights_asked(product) if right.operation != "DescribeConfigs"])

    ended = product.run_once()

    assert ended.returncode == 0, ended.stderr
    assert f"DescribeConfigs is not allowed on topic {product.offsets_topic}" in ended.stderr
    assert table_of(product.read()) == FILES


def test_the_commands_name_the_principal_and_every_resource(product: Product) -> None:
    said = product.call("topics", "acls", "--principal", "User:a b", str(product.flow_file))

    lines = said.stdout.splitlines()
    assert said.returncode == 0
    assert len(lines) == len({(right.resource, right.name) for right in rights_asked(product)})
    assert all(line.startswith("kafka-acls.sh --bootstrap-server ") and "'User:a b'" in line for line in lines)
    assert any(f"--transactional-id g-{product.name}- --resource-pattern-type prefixed" in line for line in lines)
