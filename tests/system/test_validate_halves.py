"""`validate --only sink` with the rights of a sink, and no registry that it could reach."""

import json
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from tests.system.product import Product
from tests.system.servers import GUARDED_USER, GuardedBroker

pytestmark = pytest.mark.system


def may_read(admin: AdminClient, kind: ResourceType, name: str) -> None:
    """What `topics acls --only sink` asks for."""
    literal, allow = ResourcePatternType.LITERAL, AclPermissionType.ALLOW
    right = AclBinding(kind, name, literal, f"User:{GUARDED_USER}", "*", AclOperation.READ, allow)
    for future in admin.create_acls([right]).values():
        future.result(10)


def test_a_host_of_sinks_needs_no_more_to_validate_than_to_run(
    tmp_path: Path, kafka_guarded: GuardedBroker, unique: str
) -> None:
    settings = {"kafka": kafka_guarded.login, "retry": {"max_attempts": 1}}
    product = Product(tmp_path, kafka_guarded.bootstrap, "127.0.0.1:9/o/f:prod", unique, worker=settings)
    text = json.loads(product.flow_file.read_text())
    text["flow"]["tasks"] += [
        {"buffer": {"name": "whole"}},
        {"diff": {"name": "all", "owns": ["f/"], "routes": [{"match": ".", "key": "f/{{ path }}"}]}},
        {"directory_store": {"name": "save", "directory": str(tmp_path / "out")}},
    ]
    product.flow_file.write_text(json.dumps(text))
    admin = AdminClient({"bootstrap.servers": kafka_guarded.bootstrap})
    for future in admin.create_topics([NewTopic(product.topic, config={"cleanup.policy": "compact"})]).values():
        future.result(10)
    may_read(admin, ResourceType.TOPIC, product.topic)
    may_read(admin, ResourceType.GROUP, f"{json.loads(product.worker_file.read_text())['group']}-sink-{unique}")

    whole = product.call("validate", str(product.flow_file))
    sink = product.call("validate", "--only", "sink", str(product.flow_file))

    assert whole.returncode == 1
    assert "127.0.0.1:9 cannot be reached" in whole.stdout
    assert sink.returncode == 0, sink.stdout
    assert "127.0.0.1:9" not in sink.stdout
    assert f"topic {product.topic}: fits" in sink.stdout
