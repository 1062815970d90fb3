"""Manifests and indexes: what the specification allows passes, what two readers could see differently does not."""

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connector.errors import RegistryError
from connector.oci.digest import digest_of
from connector.oci.manifest import Index, Manifest, choose, parse_manifest
from connector.oci.platform import Platform, parse_platform

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
A, B = digest_of(b"a"), digest_of(b"b")


def layer(**fields: Any) -> dict[str, Any]:
    return {"mediaType": "text/plain", "digest": A, "size": 1} | fields


def manifest(**fields: Any) -> dict[str, Any]:
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer()]} | fields
    return {name: value for name, value in document.items() if value is not ...}


def index(*entries: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)} | fields


def entry(os: str | None, architecture: str = "amd64", variant: str | None = None, **fields: Any) -> dict[str, Any]:
    platform = {"os": os, "architecture": architecture} | ({"variant": variant} if variant else {})
    return {"mediaType": MANIFEST, "digest": A, "size": 1} | ({"platform": platform} if os else {}) | fields


def parse(document: object, content_type: str = "") -> Manifest | Index:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_manifest(body, digest_of(body), content_type)


def parse_index(*entries: dict[str, Any]) -> Index:
    parsed = parse(index(*entries))
    assert isinstance(parsed, Index)
    return parsed


@pytest.mark.parametrize("content_type", [MANIFEST, "", "application/octet-stream", f"{MANIFEST}; charset=utf-8"])
def test_a_manifest_is_read_whatever_a_plain_server_calls_it(content_type: str) -> None:
    parsed = parse(
        manifest(annotations={"k": "v"}, artifactType="application/x", unknown={"ignored": True}), content_type
    )

    assert isinstance(parsed, Manifest)
    assert (parsed.media_type, parsed.artifact_type, parsed.annotations) == (MANIFEST, "application/x", {"k": "v"})
    assert [(found.media_type, found.digest, found.size_bytes) for found in parsed.layers] == [("text/plain", A, 1)]


def test_without_any_type_the_fields_decide() -> None:
    assert isinstance(parse(manifest(mediaType=...)), Manifest)
    assert isinstance(parse({"schemaVersion": 2, "manifests": []}), Index)


def test_an_empty_list_of_layers_is_a_manifest_without_layers() -> None:
    parsed = parse(manifest(layers=[]))

    assert isinstance(parsed, Manifest)
    assert parsed.layers == ()


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"not json", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"schemaVersion":2,"schemaVersion":2}', "stands twice"),
        ({"schemaVersion": 1, "fsLayers": []}, "schema 1"),
        (manifest(schemaVersion=3), "schemaVersion"),
        (manifest(schemaVersion=...), "schemaVersion"),
        (manifest(schemaVersion="2"), "schemaVersion"),
        (manifest(manifests=[]), "both"),
        (index(layers=[]), "both"),
        (manifest(mediaType=INDEX), "do not fit|does not fit|do not|fit"),
        (manifest(mediaType="application/vnd.oci.artifact.manifest.v1+json"), "neither"),
        (manifest(mediaType=7), "mediaType"),
        (manifest(layers=None), "missing"),
        (manifest(layers=..., mediaType=MANIFEST), "missing"),
        (manifest(layers={}), "not a list"),
        (manifest(layers=[None]), r"layers\[0\]"),
        (manifest(layers=[layer(size=-1)]), "size"),
        (manifest(layers=[layer(size=1.0)]), "size"),
        (manifest(layers=[layer(size="1")]), "size"),
        (manifest(layers=[layer(size=True)]), "size"),
        (manifest(layers=[layer(size=2**63)]), "size"),
        (manifest(layers=[layer(digest="sha256:../../x")]), "64"),
        (manifest(layers=[layer(digest="blake3:" + "a" * 64)]), "blake3"),
        (manifest(layers=[layer(digest=None)]), "digest"),
        (manifest(layers=[layer(mediaType="text/\x1b[31mred")]), "printable"),
        (manifest(layers=[layer(annotations={"k": 1})]), "annotations"),
        (manifest(layers=[layer(annotations=[])]), "annotations"),
        (manifest(annotations="x"), "annotations"),
        (manifest(layers=[layer(urls="file:///etc/passwd")]), "urls"),
        (manifest(layers=[layer(), layer(size=2)]), "another size"),
        (manifest(layers=[layer(platform=[])]), "platform"),
        (index(*[entry("linux")] * 1001), "1001 entries"),
    ],
)
def test_a_document_that_cannot_be_trusted_is_refused(document: object, says: str) -> None:
    with pytest.raises(RegistryError, match=says) as caught:
        parse(document)

    assert caught.value.reason == "ManifestInvalid"
    assert not caught.value.transient


@pytest.mark.parametrize(
    "content_type", [INDEX, "text/plain", "application/vnd.docker.distribution.manifest.v1+prettyjws"]
)
def test_a_content_type_that_contradicts_the_document_is_refused(content_type: str) -> None:
    with pytest.raises(RegistryError):
        parse(manifest(), content_type)


def test_null_annotations_and_layer_types_nobody_knows_pass() -> None:
    parsed = parse(manifest(annotations=None, layers=[layer(mediaType="application/x-unheard-of", annotations=None)]))

    assert isinstance(parsed, Manifest)
    assert parsed.layers[0].annotations == {}


def test_one_digest_may_stand_in_many_layers() -> None:
    parsed = parse(manifest(layers=[layer(), layer(annotations={"k": "v"})]))

    assert isinstance(parsed, Manifest)
    assert len(parsed.layers) == 2


@pytest.mark.parametrize(
    ("data", "digest", "size", "expected"),
    [
        (base64.b64encode(b"a").decode(), A, 1, b"a"),
        ("", digest_of(b""), 0, b""),
        ("!!", A, 1, None),
        (base64.b64encode(b"b").decode(), A, 1, None),
        (base64.b64encode(b"aa").decode(), A, 1, None),
        (5, A, 1, None),
    ],
)
def test_inline_data_is_used_only_if_it_is_what_the_digest_says(
    data: object, digest: str, size: int, expected: bytes | None
) -> None:
    parsed = parse(manifest(layers=[layer(data=data, digest=digest, size=size)]))

    assert isinstance(parsed, Manifest)
    assert parsed.layers[0].data == expected


def test_the_only_image_of_an_index_is_taken_without_a_platform() -> None:
    attestation = entry("unknown", "unknown", digest=B)

    assert choose(parse_index(entry("linux", "riscv64"), attestation), None, "choosing").digest == A
    marked = entry(None, digest=B, annotations={"vnd.docker.reference.type": "attestation-manifest"})
    assert choose(parse_index(marked, entry(None)), None, "choosing").digest == A


@pytest.mark.parametrize(
    ("wish", "architecture", "variant"),
    [
        ("linux/arm64", "arm64", None),
        ("linux/arm64", "arm64", "v8"),
        ("linux/arm64/v8", "arm64", None),
        ("linux/arm/v7", "arm", None),
        ("linux/arm/v6", "arm", "v6"),
        ("Linux/x86_64", "amd64", None),
    ],
)
def test_a_platform_finds_its_image(wish: str, architecture: str, variant: str | None) -> None:
    images = parse_index(
        entry("windows", digest=B), entry("linux", "s390x", digest=B), entry("linux", architecture, variant)
    )

    assert choose(images, parse_platform(wish), "choosing").digest == A


@pytest.mark.parametrize(
    ("entries", "wish"),
    [
        ([entry("linux"), entry("linux", "arm64", digest=B)], None),
        ([entry("linux"), entry("linux", "arm64", digest=B)], "linux/s390x"),
        ([entry("linux")], "linux/arm64"),
        ([entry("linux", "arm", "v6")], "linux/arm/v7"),
        ([entry(None), entry(None, digest=B)], "linux/amd64"),
        ([entry("unknown", "unknown")], None),
        ([], None),
    ],
)
def test_without_a_fitting_image_the_error_lists_what_there_is(entries: list[dict[str, Any]], wish: str | None) -> None:
    images = parse_index(*entries)

    with pytest.raises(RegistryError) as caught:
        choose(images, parse_platform(wish) if wish else None, "choosing an image of r.example/app")

    assert caught.value.reason == "PlatformMissing"
    for stated in {str(found.platform) for found in images.manifests if found.platform and not found.is_attestation}:
        assert stated in str(caught.value)


def test_a_docker_list_is_an_index() -> None:
    assert isinstance(parse(index(entry("linux")) | {"mediaType": LIST}, LIST), Index)


def test_a_platform_shows_as_it_is_written() -> None:
    assert str(Platform("linux", "arm", "v7")) == "linux/arm/v7"


VALUES = (
    st.none()
    | st.integers()
    | st.text(max_size=5)
    | st.booleans()
    | st.lists(st.integers(), max_size=2)
    | st.just({"k": "v"})
)


@example({"schemaVersion": True, "layers": []}, "")
@example({"schemaVersion": 2, "layers": [], "manifests": []}, "")
@example({"schemaVersion": 2, "layers": None, "mediaType": INDEX}, MANIFEST)
@example({"schemaVersion": 2, "layers": [{"digest": A, "size": True}]}, "")
@example({"schemaVersion": 2, "layers": [{"digest": A, "size": -1}]}, "")
@example({"schemaVersion": 2, "layers": [{"digest": A, "size": 1, "data": "*"}]}, "")
@example({"schemaVersion": 2, "layers": [{"digest": A, "size": 1}, {"digest": A, "size": 2}]}, "")
@example({"schemaVersion": 2, "manifests": [{"digest": A, "size": 1, "platform": {"os": 1}}]}, "")
@example({"schemaVersion": 2, "layers": [], "annotations": {"a": None}}, "")
@given(
    st.dictionaries(
        st.sampled_from(["schemaVersion", "mediaType", "layers", "manifests", "config", "annotations", "artifactType"]),
        VALUES | st.sampled_from([2, MANIFEST, INDEX]) | st.lists(st.dictionaries(
            st.sampled_from(["mediaType", "digest", "size", "urls", "data", "platform", "annotations"]),
            VALUES | st.sampled_from([A, 1]))),
    ),
    st.sampled_from(["", MANIFEST, INDEX, "text/html"]),
)  # fmt: skip
def test_any_document_is_a_manifest_an_index_or_a_registry_error(document: dict[str, Any], content_type: str) -> None:
    with contextlib.suppress(RegistryError):
        parsed = parse(document, content_type)
        found = parsed.layers if isinstance(parsed, Manifest) else parsed.manifests
        assert all(descriptor.size_bytes >= 0 for descriptor in found)
