"""The same layers through our extraction and through other people's unpackers: umoci, crane, oras.

Left out of the random stacks is what the unpackers themselves do not agree on: symbolic links as parents (umoci
follows them inside the root, crane and we do not), and a name twice in one archive.
"""

import gzip
import io
import json
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from connector.layers.extract import ExtractOptions, extract
from connector.oci.digest import digest_of
from connector.oci.manifest import Descriptor, Manifest, parse_manifest
from tests.layers.artifacts import (
    TAR,
    TAR_GZIP,
    TAR_ZSTD,
    BuiltLayer,
    MemoryBlob,
    contents,
    directory,
    hard_link,
    layer,
    special,
    symbolic_link,
    tar,
    zstd_frame,
)
from tests.system.servers import Oras, Registry, Tool

pytestmark = pytest.mark.system

Entries = list[tuple[str, bytes] | tarfile.TarInfo]
FORMATS = [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def parents(path: str) -> list[str]:
    """The directories above a path."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


class Stack:
    """A random stack of layers with few names, so that layers meet each other.

    A `plain` one has neither opaque directories, nor markers of its own paths, nor replacement of files by
    directories and the reverse: crane has learned these one after the other, and the pinned one knows some. Nor has it
    hard links: crane exports the name of the target, whose content a later layer may have replaced.
    """

    def __init__(self, seed: int, *, plain: bool) -> None:
        self._random = random.Random(seed)
        self._plain = plain
        self.archives = [self._archive(index) for index in range(self._random.randint(1, 5))]

    def _archive(self, index: int) -> bytes:
        leaves: list[str] = []
        files: list[str] = []
        directories: set[str] = set()
        entries: Entries = []
        for number in range(self._random.randint(1, 8)):
            path = self._path()
            if path in directories or path in leaves or set(parents(path)) & set(leaves):
                continue  # one archive does not contradict itself
            directories |= set(parents(path))
            kind = self._random.choice(["file", "file", "file", "directory", "link", "symlink", "fifo"])
            if kind == "directory" and not self._plain:
                directories.add(path)
                continue
            leaves.append(path)
            if kind == "link" and files and not self._plain:
                entries.append(hard_link(path, self._random.choice(files)))
            elif kind == "symlink":
                entries.append(symbolic_link(path, "nowhere"))
            elif kind == "fifo":
                entries.append(special(path, tarfile.FIFOTYPE))
            else:
                content = f"layer {index} entry {number}\n".encode() * self._random.choice([0, 1, 60])
                entries.append((self._random.choice(["", "./"]) + path, content))
                files.append(path)
        for _ in range(self._random.randint(0, 3)):
            marker = self._marker({*leaves, *directories})
            if marker is None or set(parents(marker)) & set(leaves) or (marker, b"") in entries:
                continue
            directories |= set(parents(marker))
            entries.insert(self._random.randint(0, len(entries)), (marker, b""))
        # Parents come first, as every builder writes them: umoci does not make a directory where a file was.
        return tar([*(directory(path) for path in sorted(directories)), *entries], self._random.choice(FORMATS))

    def _path(self) -> str:
        names = self._random.choices(["a", "b", "c", "a long name " * 12], [5, 5, 5, 1], k=self._random.randint(1, 3))
        return "/".join([*names[:-1], names[-1] + ".file"] if self._plain else names)

    def _marker(self, taken: set[str]) -> str | None:
        path = self._path()
        if self._plain and path in taken:
            return None
        if not self._plain and self._random.random() < 0.4:
            return f"{path}/.wh..wh..opq"
        head, _, name = path.rpartition("/")
        return f"{head}/.wh.{name}" if head else f".wh.{name}"


def image(folder: Path, archives: Sequence[bytes], layers: Sequence[BuiltLayer]) -> Path:
    """An OCI layout with one image tagged `it`; `archives` are what the layers hold, for their diff ids."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = digest_of(data)
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in archives]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [put(built.blob.data, built.descriptor.media_type) for built in layers],
    }
    entry = put(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "it"}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return folder


def gzip_members(data: bytes) -> bytes:
    return b"".join(gzip.compress(data[at : at + 2000], mtime=0) for at in range(0, len(data), 2000))


def files_below(folder: Path) -> dict[str, bytes]:
    """Regular files by their path; symbolic links and FIFOs are none."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def files_of_tar(path: Path) -> dict[str, bytes]:
    """Regular files of an exported file system, hard links resolved as tar does."""
    found: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            reader = archive.extractfile(member) if member.isreg() or member.islnk() else None
            if reader is not None:
                found[member.name.removeprefix("./").lstrip("/")] = reader.read()
    return found


@pytest.mark.parametrize("seed", range(40))
def test_random_stacks_come_out_as_umoci_unpacks_them(umoci: Tool, tmp_path: Path, seed: int) -> None:
    archives = Stack(seed, plain=False).archives
    layers = [
        layer(data, TAR) if index % 3 == 2 else layer(gzip_members(data), TAR_GZIP)
        for index, data in enumerate(archives)
    ]
    layout = image(tmp_path / "image", archives, layers)

    umoci("raw", "unpack", "--rootless", "--image", f"{layout}:it", str(tmp_path / "root"))

    assert contents(*layers, allow_empty=True) == files_below(tmp_path / "root")


@pytest.mark.parametrize("seed", range(10))
def test_random_stacks_come_out_as_crane_exports_them(
    crane: Tool, registry: Registry, unique: str, tmp_path: Path, seed: int
) -> None:
    archives = Stack(seed, plain=True).archives
    layers = [
        layer(zstd_frame(data), TAR_ZSTD) if index % 2 else layer(gzip_members(data), TAR_GZIP)
        for index, data in enumerate(archives)
    ]
    layout = image(tmp_path / "image", archives, layers)
    reference = f"{registry.host}/{unique}:it"

    crane("push", "--insecure", str(layout), reference)
    crane("export", "--insecure", reference, str(tmp_path / "root.tar"))

    assert contents(*layers, allow_empty=True) == files_of_tar(tmp_path / "root.tar")


def pulled_by_us(layout: Path) -> dict[str, bytes]:
    """The files of the one manifest in an OCI layout."""
    index = json.loads((layout / "index.json").read_text())
    (entry,) = index["manifests"]

    def blob(digest: str) -> bytes:
        return (layout / "blobs" / digest.replace(":", "/")).read_bytes()

    body = blob(entry["digest"])
    manifest = parse_manifest(body, digest_of(body), entry["mediaType"])
    assert isinstance(manifest, Manifest)
    blobs = {one.digest: MemoryBlob(blob(one.digest), []) for one in manifest.layers}
    descriptors: Sequence[Descriptor] = manifest.layers
    found = extract(descriptors, blobs, ExtractOptions(binary="base64", allow_empty=True), io.BytesIO())
    return {file.path: file.content.read() for file in found}


FILES = {
    "flows/a.yaml": b"a: 1\n",
    "flows/deep/b.yaml": b"",
    "flows/" + "long-name-" * 15: b"long",
    "flows/caf\u00e9.yaml": "é\n".encode(),
    "README.md": b"# read me\n",
    "archive.tar.gz": gzip.compress(tar({"inside": b"1"}), mtime=0),
    "archive.tar": tar({"inside": b"1"}),
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize(
    "arguments",
    [
        ["README.md"],
        ["README.md", "archive.tar.gz", "archive.tar", "binary"],
        ["README.md:text/markdown", "binary:application/octet-stream"],
        ["flows"],
        ["flows/"],
        ["flows/deep", "README.md"],
        ["flows/a.yaml", "flows/deep/b.yaml"],
        ["."],
        ["./flows"],
        [],
    ],
    ids=lambda arguments: " ".join(arguments) or "nothing",
)
def test_what_oras_pushes_comes_out_as_oras_pulls_it(oras: Oras, tmp_path: Path, arguments: list[str]) -> None:
    source = tmp_path / "source"
    for path, content in FILES.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(content)
    layout = tmp_path / "layout"
    kind = [] if arguments else ["--artifact-type", "application/vnd.example"]

    oras("push", "--no-tty", "--oci-layout", f"{layout}:it", *kind, *arguments, cwd=source)
    oras("pull", "--no-tty", "--oci-layout", f"{layout}:it", "-o", str(tmp_path / "pulled"), cwd=tmp_path)

    assert pulled_by_us(layout) == files_below(tmp_path / "pulled")
