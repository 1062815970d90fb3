"""Layers fetched side by side: whole or not at all, however the registry behaves.

Every test runs on both transports.
"""

import asyncio
import gzip
import random
import resource
import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import web

from connector.errors import IntegrityError, LayerError, OciSyncError, RegistryError
from connector.http_client import TransportName
from connector.oci.blob import Blobs, BlobStore, Fetched
from connector.oci.digest import Digest, digest_of
from connector.oci.hosts import Hosts, HostSettings
from connector.oci.manifest import Descriptor
from connector.oci.reference import parse_reference
from connector.oci.registry import Registry
from connector.oci.spool import SMALL_BYTES
from tests.fakes.clock import FakeClock
from tests.fakes.registry import FakeRegistry, Layer
from tests.oci.conftest import RETRY

SMALL = random.Random(1).randbytes(5000)
LARGE = random.Random(2).randbytes(3 * SMALL_BYTES + 17)


def layers_of(fake: FakeRegistry, *contents: bytes) -> list[Descriptor]:
    fake.publish_layers("org/app", "prod", [Layer(content, "text/plain") for content in contents])
    return [Descriptor("text/plain", digest_of(content), len(content)) for content in contents]


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


async def fetch(hosts: Hosts, fake: FakeRegistry, layers: list[Descriptor], store: BlobStore | None = None) -> Fetched:
    registry = Registry(hosts, None, RETRY)
    return await Blobs(registry, store).fetch(parse_reference(fake.reference("org/app")), layers)


async def test_small_and_large_layers_come_whole(hosts: Hosts, fake: FakeRegistry, tmp_path: Path) -> None:
    layers = layers_of(fake, SMALL, LARGE, b"")

    blobs = await fetch(hosts, fake, layers, BlobStore(tmp_path))

    assert [blobs[layer.digest].read() for layer in layers] == [SMALL, LARGE, b""]
    with blobs[layers[1].digest].open() as reader:
        reader.seek(100)
        assert reader.read(50) == LARGE[100:150]


async def test_a_digest_is_fetched_once_however_many_layers_share_it(hosts: Hosts, fake: FakeRegistry) -> None:
    layers = layers_of(fake, *[SMALL] * 20)

    blobs = await fetch(hosts, fake, layers)

    assert len(blobs) == 1
    assert fake.count("/blobs/") == 1


async def test_a_foreign_layer_is_fetched_from_the_registry_and_never_from_its_urls(
    hosts: Hosts, fake: FakeRegistry, other: FakeRegistry
) -> None:
    other.blobs[str(digest_of(SMALL))] = SMALL
    urls = [f"{other.url}/storage/{digest_of(SMALL)}"]
    foreign = Layer(SMALL, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", extra={"urls": urls})
    published = fake.publish_layers("org/app", "prod", [foreign])
    registry = Registry(hosts, None, RETRY)
    reference = parse_reference(fake.reference("org/app"))
    layers = (await registry.manifest(reference, Digest(published.digest))).manifest.layers
    assert layers[0].urls == tuple(urls)

    blobs = await Blobs(registry).fetch(reference, layers)
    assert blobs[layers[0].digest].read() == SMALL

    del fake.blobs[str(digest_of(SMALL))]
    with pytest.raises(RegistryError, match="404"):
        await Blobs(registry).fetch(reference, layers)
    assert other.requests == []


async def test_inline_data_is_not_fetched(hosts: Hosts, fake: FakeRegistry) -> None:
    fake.publish("org/app", "prod", {})
    layer = Descriptor("application/vnd.oci.empty.v1+json", digest_of(b"{}"), 2, data=b"{}")

    blobs = await fetch(hosts, fake, [layer])

    assert blobs[layer.digest].read() == b"{}"
    assert fake.requests == []


async def test_sha512_layers_are_checked(hosts: Hosts, fake: FakeRegistry) -> None:
    for content in (SMALL, LARGE):
        digest = digest_of(content, "sha512")
        fake.publish_layers("org/app", "prod", [Layer(content, "text/plain", digest=digest)])
        layer = Descriptor("text/plain", digest, len(content))

        assert (await fetch(hosts, fake, [layer]))[digest].read() == content


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_cut_blob_is_gone_on_with_and_never_a_shorter_file(
    hosts: Hosts, fake: FakeRegistry, content: bytes, chunked: bool
) -> None:
    [layer] = layers_of(fake, content)
    fake.cut_after(len(content) // 2, chunked=chunked)

    blobs = await fetch(hosts, fake, [layer])

    assert blobs[layer.digest].read() == content
    assert len(fake.requests) == 2


async def test_a_large_blob_is_resumed_from_the_last_byte_that_was_checked(hosts: Hosts, fake: FakeRegistry) -> None:
    [layer] = layers_of(fake, LARGE)
    fake.cut_after(400_000)

    blobs = await fetch(hosts, fake, [layer])

    assert blobs[layer.digest].read() == LARGE
    assert fake.requests[1].headers["range"] == "bytes=400000-"


@pytest.mark.parametrize(
    ("status", "content_range"),
    [
        (200, None),
        (206, None),
        (206, "bytes 0-803448/803449"),
        (206, "bytes 300000-803448/803449"),
        (206, "bytes 400000-803448/999999"),
        (206, "bytes 400000-500000/803449"),
        (206, "items 400000-803448/803449"),
        (416, "bytes */803449"),
    ],
)
async def test_a_wrong_answer_to_a_range_is_never_appended(
    hosts: Hosts, fake: FakeRegistry, status: int, content_range: str | None
) -> None:
    assert len(LARGE) == 786_449
    [layer] = layers_of(fake, LARGE)
    fake.cut_after(400_000)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        text = None if content_range is None else content_range.replace("803449", "786449").replace("803448", "786448")
        headers = {} if text is None else {"Content-Range": text}
        return web.Response(status=status, body=LARGE, headers=headers)

    fake.answer(answer, on="/blobs/")

    blobs = await fetch(hosts, fake, [layer])

    assert blobs[layer.digest].read() == LARGE


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("lie", ["longer", "shorter", "other"])
async def test_a_blob_that_is_not_what_its_descriptor_promises_is_asked_for_once_more_then_refused(
    hosts: Hosts, fake: FakeRegistry, content: bytes, lie: str
) -> None:
    [layer] = layers_of(fake, content)
    fake.blobs[layer.digest] = {"longer": content + b"x", "shorter": content[:-1], "other": b"x" + content[1:]}[lie]

    with pytest.raises(IntegrityError) as caught:
        await fetch(hosts, fake, [layer])

    assert caught.value.reason == ("DigestMismatch" if lie == "other" else "SizeMismatch")
    assert len(fake.requests) == 2
    for fact in ("layer 0", "text/plain", layer.digest, str(layer.size_bytes), fake.address, fake.reference("org/app")):
        assert fact in str(caught.value)


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_an_endless_body_is_stopped_at_the_descriptors_size(
    hosts: Hosts, fake: FakeRegistry, content: bytes
) -> None:
    [layer] = layers_of(fake, content)
    sent: list[int] = []

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(2000):
                await response.write(content[:4096] * 8)
                sent.append(1)
        except ConnectionError:
            pass
        return response

    fake.answer(endless, times=5)

    with pytest.raises(IntegrityError):
        await fetch(hosts, fake, [layer])
    assert len(sent) < 1500


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_a_blob_that_is_encoded_against_our_wish_is_used_raw_or_decoded_whichever_the_digest_says(
    hosts: Hosts, fake: FakeRegistry, content: bytes
) -> None:
    async def encode(request: web.BaseRequest) -> web.StreamResponse:
        body = fake.blobs[request.path.rpartition("/")[2]]
        wire = body if body.startswith(b"\x1f\x8b") else gzip.compress(body)
        return web.Response(body=wire, headers={"Content-Encoding": "gzip"})

    zipped = gzip.compress(content)
    layers = layers_of(fake, content, zipped)
    fake.answer(encode, on="/blobs/", times=9)

    blobs = await fetch(hosts, fake, layers)

    assert [blobs[layer.digest].read() for layer in layers] == [content, zipped]


async def test_a_gzip_bomb_behind_a_content_encoding_is_cut(hosts: Hosts, fake: FakeRegistry) -> None:
    for content in (SMALL, LARGE):
        [layer] = layers_of(fake, content)

        async def bomb(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(body=gzip.compress(bytes(8 << 20)), headers={"Content-Encoding": "gzip"})

        fake.answer(bomb, times=5)
        with pytest.raises((IntegrityError, RegistryError)):
            await fetch(hosts, fake, [layer])
        fake.heal()


async def test_a_few_encoded_bytes_never_become_a_large_piece_in_memory(
    hosts: Hosts, fake: FakeRegistry, tmp_path: Path
) -> None:
    content = bytes(48 << 20)
    [layer] = layers_of(fake, content)
    wire = gzip.compress(content, 1)
    del content

    async def encoded(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=wire, headers={"Content-Encoding": "gzip"})

    fake.blobs.clear()
    fake.answer(encoded, times=3)
    tracemalloc.start()
    try:
        blobs = await fetch(hosts, fake, [layer], BlobStore(tmp_path))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert blobs[layer.digest].size_bytes == 48 << 20
    assert peak_bytes < 8 << 20


async def test_what_a_full_disk_left_of_a_blob_never_moves_those_behind_it(
    hosts: Hosts, fake: FakeRegistry, tmp_path: Path, clock: FakeClock
) -> None:
    contents = [random.Random(number).randbytes(90_000) for number in range(4)]
    layers = layers_of(fake, *contents)
    room = resource.getrlimit(resource.RLIMIT_FSIZE)

    def somebody_makes_room(seconds: float) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, room)

    clock.when_sleeping = somebody_makes_room
    resource.setrlimit(resource.RLIMIT_FSIZE, (130_000, room[1]))
    try:
        blobs = await fetch(hosts, fake, layers, BlobStore(tmp_path, memory_bytes=0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, room)

    assert [blobs[layer.digest].read() for layer in layers] == contents


async def test_more_than_may_be_fetched_is_refused_before_the_first_byte(hosts: Hosts, fake: FakeRegistry) -> None:
    layers = layers_of(fake, SMALL, LARGE)

    with pytest.raises(LayerError) as caught:
        await Blobs(Registry(hosts), max_bytes=700_000).fetch(parse_reference(fake.reference("org/app")), layers)

    assert caught.value.reason == "TooLarge"
    assert fake.requests == []


async def test_an_error_names_the_host_that_sent_the_bytes(
    hosts: Hosts, fake: FakeRegistry, other: FakeRegistry
) -> None:
    [layer] = layers_of(fake, LARGE)
    other.blobs = {layer.digest: b"x" * len(LARGE)}
    fake.redirect(other.url + "/storage/{digest}")

    with pytest.raises(IntegrityError, match=other.address) as caught:
        await fetch(hosts, fake, [layer])

    assert fake.reference("org/app") in str(caught.value)


async def test_a_missing_blob_is_one_error_and_the_others_stop(hosts: Hosts, fake: FakeRegistry) -> None:
    layers = layers_of(fake, *[bytes([number]) * 100 for number in range(50)])
    del fake.blobs[layers[3].digest]

    with pytest.raises(RegistryError, match="layer 3 ") as caught:
        await fetch(hosts, fake, layers)

    assert caught.value.reason == "NotFound"
    assert "BLOB_UNKNOWN" in str(caught.value)


async def test_transient_failures_are_tried_again_within_the_tick(
    hosts: Hosts, fake: FakeRegistry, clock: FakeClock
) -> None:
    layers = layers_of(fake, SMALL, LARGE)
    for status in (500, 503, 429):
        fake.fail_next(status, on="/blobs/")

    await fetch(hosts, fake, layers)

    assert 2 <= len(clock.slept) <= 3


async def test_nothing_stays_on_disk_when_the_blobs_are_gone_or_the_fetch_failed(
    hosts: Hosts, fake: FakeRegistry, tmp_path: Path
) -> None:
    layers = layers_of(fake, SMALL, LARGE)
    store = BlobStore(tmp_path)
    before = store.budget.left_bytes

    blobs: Fetched | None = await fetch(hosts, fake, layers, store)
    assert len(files_under(tmp_path)) == 1
    assert store.budget.left_bytes == before - len(SMALL)
    blob = blobs[layers[1].digest] if blobs else None
    del blobs
    assert blob is not None
    assert blob.read() == LARGE  # a blob keeps its spool alive

    del blob
    fake.blobs[layers[0].digest] = b"x" * len(SMALL)
    with pytest.raises(OciSyncError):
        await fetch(hosts, fake, layers, store)

    assert files_under(tmp_path) == []
    assert store.budget.left_bytes == before


async def test_beyond_the_memory_budget_small_blobs_share_one_file(
    hosts: Hosts, fake: FakeRegistry, tmp_path: Path
) -> None:
    contents = [random.Random(seed).randbytes(1000) for seed in range(30)]
    layers = layers_of(fake, *contents)

    blobs = await fetch(hosts, fake, layers, BlobStore(tmp_path, memory_bytes=5500))

    assert [blobs[layer.digest].read() for layer in layers] == contents
    assert len(files_under(tmp_path)) == 1


async def test_progress_counts_every_byte_once(hosts: Hosts, fake: FakeRegistry) -> None:
    layers = layers_of(fake, SMALL, LARGE)
    fake.cut_after(100_000, on=layers[1].digest)
    fake.ranges = False
    counts: list[int] = []

    await Blobs(Registry(hosts, None, RETRY)).fetch(parse_reference(fake.reference("org/app")), layers, counts.append)

    assert sum(counts) == len(SMALL) + len(LARGE)


async def test_a_spool_that_cannot_be_written_says_so(hosts: Hosts, fake: FakeRegistry, tmp_path: Path) -> None:
    layers = layers_of(fake, LARGE)
    (tmp_path / "spool").write_text("in the way")

    with pytest.raises(LayerError, match=r"spool\.directory") as caught:
        await fetch(hosts, fake, layers, BlobStore(tmp_path))

    assert caught.value.reason == "SpoolFailed"


async def test_a_cancelled_fetch_leaves_nothing(hosts: Hosts, fake: FakeRegistry, tmp_path: Path) -> None:
    layers = layers_of(fake, LARGE)
    fake.drip(1000, 0.05)
    store = BlobStore(tmp_path)

    fetching = asyncio.ensure_future(fetch(hosts, fake, layers, store))
    await fake.wait_for("/blobs/")
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    del fetching

    assert files_under(tmp_path) == []


async def test_however_many_small_layers_come_at_once_few_large_ones_do(
    hosts: Hosts, fake: FakeRegistry, tmp_path: Path
) -> None:
    small, large = 64 << 10, (64 << 10) + 1
    under_way = {small: 0, large: 0}
    most = dict(under_way)

    async def slowly(request: web.BaseRequest) -> web.StreamResponse:
        body = fake.blobs[request.path.rpartition("/")[2]]
        kind = min(max(len(body), small), large)
        under_way[kind] += 1
        most[kind] = max(most[kind], under_way[kind])
        await asyncio.sleep(0.1)
        under_way[kind] -= 1
        return web.Response(body=body)

    fake.answer(slowly, on="/blobs/", times=1000)
    contents = [bytes([number]) * size for size, count in ((small, 60), (large, 40)) for number in range(count)]

    blobs = await fetch(hosts, fake, layers_of(fake, *contents), BlobStore(tmp_path))

    assert len(blobs) == 100
    assert most[small] > 8 >= most[large]


# ---- the cache ---------------------------------------------------------------------------------------------------


async def test_a_new_release_fetches_only_what_is_new_even_after_a_restart(
    hosts: Hosts, fake: FakeRegistry, tmp_path: Path
) -> None:
    layers = layers_of(fake, SMALL, LARGE)
    await fetch(hosts, fake, layers, BlobStore(tmp_path, cache_bytes=10 << 20))
    fake.requests.clear()

    later = layers_of(fake, SMALL, LARGE, b"new")
    blobs = await fetch(hosts, fake, later, BlobStore(tmp_path, cache_bytes=10 << 20))

    assert [blobs[layer.digest].read() for layer in later] == [SMALL, LARGE, b"new"]
    assert [seen.path.rpartition("/")[2] for seen in fake.requests] == [digest_of(b"new")]
    assert blobs.downloaded == 1


async def test_what_was_fetched_before_a_failure_is_not_fetched_again(
    fake: FakeRegistry, tmp_path: Path, transport: TransportName
) -> None:
    layers = layers_of(fake, SMALL, LARGE, b"third")
    store = BlobStore(tmp_path, cache_bytes=10 << 20)
    async with Hosts({fake.address: HostSettings(concurrency=1)}, transport=transport) as hosts:
        fake.fail_next(404, on=layers[2].digest)
        with pytest.raises(RegistryError):
            await fetch(hosts, fake, layers, store)
        fake.requests.clear()

        await fetch(hosts, fake, layers, store)

    assert [seen.path.rpartition("/")[2] for seen in fake.requests] == [layers[2].digest]


async def test_a_tick_cancelled_while_the_cache_is_read_gives_all_memory_back(
    hosts: Hosts, fake: FakeRegistry, tmp_path: Path
) -> None:
    layers = layers_of(fake, *[bytes([number]) * 1000 for number in range(20)])
    store = BlobStore(tmp_path, cache_bytes=10 << 20)
    (await fetch(hosts, fake, layers, store)).close()
    whole = store.budget.left_bytes
    with closing(sqlite3.connect(tmp_path / "cache" / "blobs-2.sqlite3", isolation_level=None)) as other_process:
        other_process.execute("begin exclusive")  # so the cache waits, in its thread
        fetching = asyncio.ensure_future(fetch(hosts, fake, layers, store))
        _, pending = await asyncio.wait([fetching], timeout=0.1)
        assert pending
        fetching.cancel()
        await asyncio.wait([fetching])
        other_process.execute("rollback")
    assert fetching.cancelled()

    await asyncio.get_running_loop().shutdown_default_executor()  # the thread has ended
    await asyncio.sleep(0)

    assert store.budget.left_bytes == whole
    assert files_under(tmp_path / "spool") == []


async def test_a_damaged_cache_entry_is_fetched_again(hosts: Hosts, fake: FakeRegistry, tmp_path: Path) -> None:
    [layer] = layers_of(fake, LARGE)
    store = BlobStore(tmp_path, cache_bytes=10 << 20)
    await fetch(hosts, fake, [layer], store)
    [cached] = (tmp_path / "cache" / "files").iterdir()
    damaged = bytearray(LARGE)
    damaged[77] ^= 1
    cached.unlink()
    cached.write_bytes(damaged)

    blobs = await fetch(hosts, fake, [layer], store)

    assert blobs[layer.digest].read() == LARGE
    assert blobs.downloaded == 1


# ---- whatever a registry does ------------------------------------------------------------------------------------

FAULTS = ["fail", "cut", "cut chunked", "flip", "none", "longer", "shorter", "wrong range"]


@pytest.mark.parametrize("seed", range(12))
async def test_after_any_run_of_faults_the_bytes_are_right_or_there_is_one_error(
    hosts: Hosts, fake: FakeRegistry, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    content = chance.randbytes(chance.choice([10, 5000, SMALL_BYTES, SMALL_BYTES + 1, 900_000]))
    [layer] = layers_of(fake, content)

    def wrong(body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(body=body, headers=headers, status=status)

        fake.answer(answer)

    for fault in chance.choices(FAULTS, k=chance.randint(1, 4)):
        position = chance.randrange(len(content))
        match fault:
            case "fail":
                fake.fail_next(chance.choice([500, 502, 429, 408]))
            case "cut" | "cut chunked":
                fake.cut_after(position, on="", chunked=fault == "cut chunked")
            case "flip":
                wrong(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
            case "longer":
                wrong(content + b"x")
            case "shorter":
                wrong(content[:-1])
            case "wrong range":
                end = len(content) - 1
                wrong(content[position:], {"Content-Range": f"bytes {position}-{end}/{len(content)}"}, 206)

    try:
        blobs = await fetch(hosts, fake, [layer], BlobStore(tmp_path, cache_bytes=1 << 22))
    except OciSyncError:
        fake.heal()
        blobs = await fetch(hosts, fake, [layer], BlobStore(tmp_path, cache_bytes=1 << 22))

    assert blobs[layer.digest].read() == content
