"""Manifests, indexes and descriptors: parsed once, strictly where it matters. Pure.

Rules (image-spec manifest.md, image-index.md, descriptor.md). (1) The document says what it is: its `mediaType`, else
the Content-Type, else which of `layers` and `manifests` it has; where two of these disagree it is refused, since two
readers could see two artifacts. (2) Unknown fields, artifact types and layer types pass; unknown digest algorithms
and sizes that are no 63-bit counts do not. (3) The config is opaque and never read. (4) One digest has one size.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from connector.errors import RegistryError
from connector.oci.digest import Digest, algorithm_of, digest_of, parse_digest
from connector.oci.platform import Platform
from connector.oci.strict_json import parse_json

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
ACCEPT = ", ".join([OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST])

MAX_MANIFEST_BYTES = 4 << 20  # what distribution-spec asks registries to take at least; 1,000 layers need 0.4 MB
_MAX_CHILDREN = 1000
_MAX_ANNOTATIONS = 1000
_MAX_INLINE_BYTES = 1 << 20
_LARGEST_SIZE = (1 << 63) - 1
_SCHEMA_1 = "docker.distribution.manifest.v1+"
_VAGUE_TYPES = frozenset({"", "application/json", "application/octet-stream", "binary/octet-stream"})


class Descriptor(Struct, frozen=True):
    """What a manifest or index says of one blob or manifest. `data` is the inline content, already verified."""

    media_type: str
    digest: Digest
    size_bytes: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    data: bytes | None = None
    urls: tuple[str, ...] = ()
    artifact_type: str = ""

    @property
    def is_attestation(self) -> bool:
        """Whether it describes an image rather than being one (BuildKit's provenance and SBOM entries)."""
        unknown = self.platform is not None and self.platform.is_unknown
        return unknown or self.annotations.get("vnd.docker.reference.type") == "attestation-manifest"


class Manifest(Struct, frozen=True):
    """One artifact: its layers in order, perhaps none."""

    digest: Digest
    media_type: str
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""


class Index(Struct, frozen=True):
    """Several manifests under one digest, usually one a platform."""

    digest: Digest
    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""


def parse_manifest(
    body: bytes, digest: Digest, content_type: str = "", doing: str = "reading a manifest"
) -> Manifest | Index:
    """The document whose hash was found to be `digest`. Raises RegistryError ManifestInvalid.

    `content_type` is the header's value; parameters such as charset are ignored.
    """
    try:
        document = parse_json(body)
        if not isinstance(document, dict):
            raise ValueError("it is not a JSON object")
        return _document(document, digest, essence(content_type))
    except ValueError as error:
        raise _invalid(doing, digest, str(error)) from error


def essence(content_type: str) -> str:
    """A media type in lower case, without parameters."""
    return content_type.partition(";")[0].strip().lower()


def choose(index: Index, wish: Platform | None, doing: str) -> Descriptor:
    """The entry of the index to go on with. Raises RegistryError PlatformMissing that lists what there is.

    The answer may be an index again; the caller bounds the depth.
    """
    images = [entry for entry in index.manifests if not entry.is_attestation]
    if wish is None:
        if len(images) == 1:
            return images[0]
    else:
        for entry in images:
            if entry.platform is not None and entry.platform.fits(wish):
                return entry
        unnamed = [entry for entry in images if entry.platform is None]
        if len(unnamed) == 1:
            return unnamed[0]
    found = ", ".join(str(entry.platform or "none stated") for entry in images[:20]) or "no image at all"
    raise RegistryError(
        reason="PlatformMissing",
        doing=doing,
        cause=f"the index {index.digest} has {len(images)} images ({found}); {wish or 'no platform'} was asked for",
        remedy="set the task's `platform` to one of these (operator), or push one for it (publisher)",
    )


def _document(document: dict[str, Any], digest: Digest, content_type: str) -> Manifest | Index:
    if document.get("schemaVersion") == 1 or "fsLayers" in document or _SCHEMA_1 in content_type:
        raise ValueError("it is a Docker schema 1 manifest, which is not supported; push it with a current tool")
    if document.get("schemaVersion") != 2 or isinstance(document["schemaVersion"], bool):
        raise ValueError("its schemaVersion is not 2")
    media_type = _media_type(document, content_type)
    annotations = _annotations(document)
    artifact_type = _text(document, "artifactType")
    if media_type in MANIFEST_TYPES:
        layers = _descriptors(document, "layers")
        return Manifest(digest, media_type, layers, annotations, artifact_type)
    entries = _descriptors(document, "manifests")
    if len(entries) > _MAX_CHILDREN:
        raise ValueError(f"it has {len(entries)} entries; at most {_MAX_CHILDREN} are read")
    return Index(digest, media_type, entries, annotations, artifact_type)


def _media_type(document: dict[str, Any], content_type: str) -> str:
    has_layers, has_manifests = "layers" in document, "manifests" in document
    if has_layers and has_manifests:
        raise ValueError("it has both `layers` and `manifests`, so two readers could see two artifacts")
    stated = essence(_text(document, "mediaType"))
    if stated and content_type not in _VAGUE_TYPES and stated != content_type:
        raise ValueError(f"its mediaType is {stated[:100]!r}, its Content-Type {content_type[:100]!r}")
    by_fields = OCI_MANIFEST if has_layers else OCI_INDEX if has_manifests else ""
    media_type = stated or ("" if content_type in _VAGUE_TYPES else content_type) or by_fields
    if media_type not in MANIFEST_TYPES | INDEX_TYPES:
        raise ValueError(f"its type is {media_type[:100]!r}, neither an image manifest nor an index")
    if (media_type in MANIFEST_TYPES and has_manifests) or (media_type in INDEX_TYPES and has_layers):
        raise ValueError(f"its type is {media_type!r}, which its fields do not fit")
    return media_type


def _descriptors(document: dict[str, Any], name: str) -> tuple[Descriptor, ...]:
    entries = document.get(name)
    if not isinstance(entries, list):
        raise ValueError(f"`{name}` is {'missing' if entries is None else 'not a list'}")
    descriptors = tuple(_descriptor(entry, f"{name}[{index}]") for index, entry in enumerate(entries))
    sizes: dict[Digest, int] = {}
    for index, descriptor in enumerate(descriptors):
        if sizes.setdefault(descriptor.digest, descriptor.size_bytes) != descriptor.size_bytes:
            raise ValueError(f"{name}[{index}] gives {descriptor.digest} another size than an entry before it")
    return descriptors


def _descriptor(entry: Any, where: str) -> Descriptor:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is not an object")
    try:
        digest = parse_digest(_text(entry, "digest"))
        size = entry.get("size")
        if type(size) is not int or not 0 <= size <= _LARGEST_SIZE:
            raise ValueError("its size is not a count of bytes")
        urls = entry.get("urls") or []
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            raise ValueError("its urls are not a list of texts")
        return Descriptor(
            media_type=_text(entry, "mediaType"),
            digest=digest,
            size_bytes=size,
            annotations=_annotations(entry),
            platform=_platform(entry),
            data=_inline(entry, digest, size),
            urls=tuple(urls),
            artifact_type=_text(entry, "artifactType"),
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _annotations(holder: dict[str, Any]) -> dict[str, str]:
    annotations = holder.get("annotations")
    if annotations is None:
        return {}
    if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
        raise ValueError("annotations are not a map of texts")
    if len(annotations) > _MAX_ANNOTATIONS:
        raise ValueError(f"it has {len(annotations)} annotations; at most {_MAX_ANNOTATIONS} are read")
    return annotations


def _platform(entry: dict[str, Any]) -> Platform | None:
    platform = entry.get("platform")
    if platform is None:
        return None
    if not isinstance(platform, dict):
        raise ValueError("its platform is not an object")
    return Platform(_text(platform, "os"), _text(platform, "architecture"), _text(platform, "variant"))


def _inline(entry: dict[str, Any], digest: Digest, size: int) -> bytes | None:
    """The inline content where it is what the descriptor promises; a wrong one is as good as none (it is fetched)."""
    data = entry.get("data")
    if not isinstance(data, str) or size > _MAX_INLINE_BYTES:
        return None
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None
    return content if len(content) == size and digest_of(content, algorithm_of(digest)) == digest else None


def _text(holder: dict[str, Any], name: str) -> str:
    value = holder.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 4096 or not value.isprintable():
        raise ValueError(f"{name} is not a printable text of at most 4,096 characters")
    return value


def _invalid(doing: str, digest: Digest, cause: str) -> RegistryError:
    return RegistryError(
        reason="ManifestInvalid",
        doing=doing,
        cause=f"the manifest {digest} cannot be used: {cause}",
        remedy="push the artifact again with a tool that follows the OCI image specification (publisher)",
    )
