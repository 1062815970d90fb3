"""Artifacts that a registry might send to fill our memory: layers of one manifest, or the bytes of a manifest.

Each is as large as the default limits let it be, or larger where the refusal itself could cost something.
"""

import base64
import gzip
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence

from tests.fakes.registry import MANIFEST, TITLE, FakeRegistry, Layer, sha256
from tests.layers.artifacts import TAR, TAR_GZIP, TAR_ZSTD, header, padded, tar

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20
FILE_BYTES = 10_000_000  # max_file_size; max_total_size is ten of them
MANIFEST_BYTES = 4 * MIB
END_OF_TAR = bytes(1024)
WIDE = "\N{PARTY POPPER}"  # makes Python take four bytes for each character of a text

Layers = Callable[[], Sequence[Layer]]


def titled(name: str, data: bytes) -> Layer:
    """A layer that is one file."""
    return Layer(data, "text/plain", {TITLE: name})


def texts(count: int, size: int, letters: str, prefix: str = "f") -> list[Layer]:
    """Layers of text, each another one."""
    block = "".join(random.Random(1).choices(letters, k=100_000)).encode()
    return [
        titled(f"{prefix}{number}", (b"%d" % number + block * (size // len(block) + 1))[:size])
        for number in range(count)
    ]


def plain_text() -> Sequence[Layer]:
    """100 MB of it in ten files."""
    return texts(10, FILE_BYTES, "abc \n")


def text_that_doubles() -> Sequence[Layer]:
    """The largest records that our own topics take."""
    return texts(10, FILE_BYTES, '"\n\\')


def control_characters() -> Sequence[Layer]:
    """A file that is six times as long in JSON, and more than its topic takes."""
    return [titled("f", WIDE.encode() + b"\x01" * (FILE_BYTES - 4))]


def control_characters_in_five_files() -> Sequence[Layer]:
    """Files that look small and whose records are not, but fit the topic."""
    return [titled(f"f{number}", b"%d" % number + b"\x01" * 3_000_000) for number in range(5)]


def no_text() -> Sequence[Layer]:
    """100 MB that become base64."""
    return [titled(f"f{number}", random.Random(number).randbytes(FILE_BYTES)) for number in range(10)]


def small_archives() -> Sequence[Layer]:
    """760 blobs of a size up to which they may stand in memory: 99 MB in small files."""
    return [
        Layer(tar({f"f{number}": random.Random(number).randbytes(65_000).hex().encode()}), TAR) for number in range(760)
    ]


def small_layers() -> Sequence[Layer]:
    """100 MB in 1,000 layers."""
    return texts(1000, 100_000, "abc \n")


def many_files(total: int = 29_000) -> Sequence[Layer]:
    """Nearly as many as `max_entries` lets pass, with names that take Python four bytes a character."""
    names = (f"d{number % 97}/{WIDE} a file with a longer name {number:07}" for number in range(total))
    entries = b"".join(header(name.encode(), b"00000000001\x00") + padded(b"a") for name in names)
    return [Layer(gzip.compress(entries + END_OF_TAR, 1), TAR_GZIP)]


def many_files_and_many_bytes() -> Sequence[Layer]:
    """All at once: paths, the largest records, and small blobs."""
    return [*many_files(), *texts(7, FILE_BYTES, '"\n\\', "large"), *texts(250, 100_000, "abc \n", "small")]


def gzip_bomb_of_files() -> Sequence[Layer]:
    """100 MB in ten files, from a few kilobytes."""
    entries = (header(b"f%d" % number, b"%011o\x00" % FILE_BYTES) for number in range(10))
    content = padded(b"\n" * FILE_BYTES)
    return [Layer(gzip.compress(b"".join(entry + content for entry in entries) + END_OF_TAR, 9), TAR_GZIP)]


def gzip_bomb_of_zeros() -> Sequence[Layer]:
    """A file of a terabyte."""
    start = header(b"big", b"\x80" + (1 << 40).to_bytes(11, "big"))
    return [Layer(gzip.compress(start, 1) + gzip.compress(bytes(8 * MIB), 1) * 40, TAR_GZIP)]


def zstd_bomb(window_log: int) -> Sequence[Layer]:
    """A file whose decoder wants a window of that size; the frame does not say how long it is."""
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: window_log,
        zstd.CompressionParameter.compression_level: 3,
    }
    packer = zstd.ZstdCompressor(options=options)
    entry = header(b"f", b"%011o\x00" % FILE_BYTES) + padded(b"\n" * FILE_BYTES)
    return [Layer(packer.compress(entry) + packer.compress(bytes(20 * MIB)) + packer.flush(), TAR_ZSTD)]


def long_tar_headers() -> Sequence[Layer]:
    """PAX headers just under their limit, one after the other."""
    value = b"a" * (MIB - 40)
    record = b"%d path=" % (len(value) + 14) + value + b"\n"
    return [Layer(gzip.compress((header(b"p", b"%011o\x00" % len(record), b"x") + padded(record)) * 14, 1), TAR_GZIP)]


def tar_headers_of_many_records() -> Sequence[Layer]:
    """PAX headers of as many names as fit."""
    records = b"6 a=1\n" * (MIB // 6)
    one = header(b"p", b"%011o\x00" % len(records), b"x") + padded(records) + header(b"f", b"00000000000\x00")
    return [Layer(gzip.compress(one * 13 + END_OF_TAR, 6), TAR_GZIP)]


def ten_thousand_layers() -> Sequence[Layer]:
    """Ten times as many as `max_layers`, of a few bytes each."""
    return [titled(f"f{number}", b"%d" % number) for number in range(10_000)]


def manifest(**fields: object) -> bytes:
    """A manifest of one layer, with other fields beside or instead."""
    layer = {"mediaType": "text/plain", "digest": sha256(b"x"), "size": 1}
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer], **fields}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def manifest_of_short_strings() -> bytes:
    """As many texts as 4 MiB hold, each another one."""
    return manifest(more=[f"{number:x}" for number in range(460_000)])


def manifest_of_names() -> bytes:
    """As many names as 4 MiB hold."""
    return manifest(more={f"{number:x}": 1 for number in range(390_000)})


def manifest_of_the_most_names() -> bytes:
    """As many names as are let pass, and long ones."""
    return manifest(more={f"{number:036x}": "" for number in range(97_000)})


def manifest_of_wide_text() -> bytes:
    """A text that Python takes four bytes a character for, and an escape that makes us look at it once more."""
    return manifest(more=WIDE + "a" * 4_100_000).replace(b"aaaaaa", b"\\u0061", 1)


def manifest_of_inline_blobs() -> bytes:
    """Blobs within the manifest."""
    blobs = [b"%d" % number + b"a" * 1_000_000 for number in range(3)]
    return manifest(
        layers=[
            {
                "mediaType": "text/plain",
                "digest": sha256(data),
                "size": len(data),
                "data": base64.b64encode(data).decode(),
                "annotations": {TITLE: f"f{number}"},
            }
            for number, data in enumerate(blobs)
        ]
    )


_LAYERS: Sequence[Layers] = (
    plain_text, text_that_doubles, control_characters, control_characters_in_five_files, no_text, small_archives,
    small_layers, many_files, many_files_and_many_bytes, gzip_bomb_of_files, gzip_bomb_of_zeros, long_tar_headers,
    tar_headers_of_many_records, ten_thousand_layers,
)  # fmt: skip
LAYERS: Mapping[str, Layers] = {
    **{made.__name__: made for made in _LAYERS},
    "zstd_bomb_in_the_largest_window": lambda: zstd_bomb(23),
    "zstd_bomb_in_a_larger_window": lambda: zstd_bomb(27),
}
MANIFESTS: Mapping[str, Callable[[], bytes]] = {
    made.__name__: made
    for made in (
        manifest_of_short_strings, manifest_of_names, manifest_of_the_most_names, manifest_of_wide_text,
        manifest_of_inline_blobs,
    )
}  # fmt: skip


def publish(registry: FakeRegistry, name: str) -> str:
    """The reference of the artifact of that name."""
    if name in MANIFESTS:
        body = MANIFESTS[name]()
        assert MANIFEST_BYTES * 0.7 < len(body) <= MANIFEST_BYTES, len(body)
        registry.blobs[sha256(b"x")] = b"x"
        registry.publish_manifest(name, "prod", body, MANIFEST)
    else:
        registry.publish_layers(name, "prod", LAYERS[name]())
    return registry.reference(name)
