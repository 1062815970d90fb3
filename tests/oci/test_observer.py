"""What registries are asked is counted, under the name that the reference has."""

from connector.oci.blob import Blobs
from connector.oci.hosts import Hosts
from connector.oci.reference import parse_reference
from connector.oci.registry import Registry
from connector.telemetry import Telemetry
from tests.fakes.registry import FakeRegistry


def value(telemetry: Telemetry, name: str, *labels: str) -> float:
    return sum(one.value for one in telemetry.samples() if one.name == name and set(labels) <= set(one.labels))


async def test_requests_bytes_and_the_rate_limit_of_a_pull_are_counted() -> None:
    telemetry = Telemetry()
    async with FakeRegistry() as fake, Hosts(observer=telemetry) as hosts:
        fake.publish("org/app", "prod", {"a": b"x" * 100, "b": b"y" * 200})
        fake.rate_limit_headers = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "97"}
        reference = parse_reference(fake.reference("org/app"))
        registry = Registry(hosts)

        head = await registry.head(reference)
        pulled = await registry.manifest(reference, head.digest)
        await Blobs(registry).fetch(reference, pulled.manifest.layers)

    assert value(telemetry, "oci_sync_registry_requests_total", fake.address, "HEAD", "200") == 1
    assert value(telemetry, "oci_sync_registry_requests_total", fake.address, "GET", "200") == 3
    assert value(telemetry, "oci_sync_blob_bytes_fetched_total", fake.address) == 300
    assert value(telemetry, "oci_sync_registry_ratelimit_remaining", fake.address) == 97
