"""The sink half against real servers: crashes, drift, a store that goes away, figures."""

import asyncio
import contextlib
import gzip
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import nats as nats_client
import pytest

from tests.layers.artifacts import TAR_GZIP, tar
from tests.system.servers import Nats, Registry
from tests.system.test_examples import RELEASES, Example, _flows, bucket, example

__all__ = ["example"]
pytestmark = pytest.mark.system


def _pulled(it: Example, number: int) -> None:
    """The release is in the topic, and the sink has not seen it."""
    it.oras.push(it.reference, RELEASES[number])
    it.source()


@contextmanager
def _running(
    it: Example, env: Mapping[str, str] | None = None, half: Sequence[str] = ("--only", "sink")
) -> Iterator["tuple[subprocess.Popen[bytes], Path]"]:
    log = it.folder / f"sink-{time.monotonic_ns()}.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            it.command("run", *half),
            env={**os.environ, **it.environ, **(env or {})}, stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        yield process, log
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


def _wait_for(log: Path, pattern: str, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not re.search(pattern, log.read_text()):
        assert time.monotonic() < deadline, f"no {pattern!r} in\n{log.read_text()}"
        time.sleep(0.02)


async def _writes(nats: Nats, name: str) -> int:
    """How many writes the bucket ever saw: the last revision of its stream."""
    client = await nats_client.connect(nats.url)
    try:
        with contextlib.suppress(nats_client.js.errors.NotFoundError):
            return int((await client.jetstream().stream_info(f"KV_{name}")).state.last_seq)
        return 0
    finally:
        await client.close()


def _values(held: Mapping[str, tuple[bytes, int]]) -> dict[str, bytes]:
    return {key: value for key, (value, _) in held.items()}


async def test_killed_after_any_write_the_restart_converges_and_writes_nothing_twice(
    example: Callable[..., Example], nats: Nats
) -> None:
    it = example("system_sync_flows.yaml")
    _pulled(it, 1)

    for kills in range(1, 21):  # each start makes one write more than the one before, and dies
        with _running(it, {"OCI_SYNC_FAULT": "kill:write_applied"}) as (process, log):
            assert process.wait(60) == -signal.SIGKILL, log.read_text()
        assert await _writes(nats, it.bucket) == kills
    it.sink()

    assert _values(await bucket(nats, it.bucket)) == _flows(1)
    assert await _writes(nats, it.bucket) == len(_flows(1))


def _thousand(number: int) -> dict[str, bytes]:
    """Keys and values of a thousand flows: between the two releases 890 change, 100 stay, 10 go and 10 come."""
    flows = {f"stays{index}": "the same" for index in range(100)}
    flows |= {f"changes{index}": f"of release {number}" for index in range(890)}
    flows |= {f"only-in-{number}-{index}": "here" for index in range(10)}
    return {f"flowgen.flows.{name}": f"flow: {{name: {name}}}  # {text}\n".encode() for name, text in flows.items()}


def _pulled_as_archive(it: Example, keys: Mapping[str, bytes]) -> None:
    """A release of many files in one layer is in the topic, seconds sooner than one of many layers."""
    files = {f"flows/{key}.yaml": text for key, text in keys.items()}
    it.oras.push(it.reference, {"flows.tar.gz": gzip.compress(tar(files))}, media_type=TAR_GZIP)
    it.source()


@pytest.mark.timeout(180)
async def test_killed_at_random_moments_of_an_apply_the_restart_converges_and_writes_nothing_twice(
    example: Callable[..., Example], nats: Nats
) -> None:
    it = example("system_sync_flows.yaml")
    old, new = _thousand(2), _thousand(1)
    _pulled_as_archive(it, new)
    it.sink()
    untouched = {key: held for key, held in (await bucket(nats, it.bucket)).items() if "stays" in key}
    writes = await _writes(nats, it.bucket)
    chance = random.Random(5)
    left = halfway = 0

    client = await nats_client.connect(nats.url)
    for _ in range(20):
        if left == 0:  # then the next release, and after that the first again: every kill has something to hit
            old, new = new, old
            _pulled_as_archive(it, new)
            writes += 890 + 10 + 10
        first_write = await client.subscribe(f"$KV.{it.bucket}.>")
        await client.flush()
        with _running(it) as (process, log):
            await first_write.next_msg(timeout=40)
            await asyncio.sleep(chance.uniform(0, 0.03))
            process.kill()
            assert process.wait(10) == -signal.SIGKILL, log.read_text()
        await first_write.unsubscribe()

        held = _values(await bucket(nats, it.bucket))
        left = sum(held.get(key) != new.get(key) for key in old.keys() | new.keys())
        halfway += 0 < left < 890 + 10 + 10
        assert [key for key, value in held.items() if value not in (old.get(key), new.get(key))] == []
    await client.close()
    it.sink()

    after = await bucket(nats, it.bucket)
    assert halfway >= 10
    assert _values(after) == new
    assert await _writes(nats, it.bucket) == writes
    assert {key: held for key, held in after.items() if "stays" in key} == untouched


@pytest.mark.parametrize("point", ["snapshot_assembled", "snapshot_applied"])
async def test_killed_around_an_apply_the_next_start_is_right(
    example: Callable[..., Example], nats: Nats, point: str
) -> None:
    it = example("system_sync_flows.yaml")
    _pulled(it, 1)
    with _running(it, {"OCI_SYNC_FAULT": f"kill:{point}"}) as (process, log):
        assert process.wait(60) == -signal.SIGKILL, log.read_text()

    it.sink()

    assert _values(await bucket(nats, it.bucket)) == _flows(1)
    assert await _writes(nats, it.bucket) == len(_flows(1))


async def test_what_somebody_changed_by_hand_comes_back_from_the_topic_while_the_registry_is_down(
    example: Callable[..., Example], nats: Nats, registry: Registry
) -> None:
    it = example("system_sync_flows.yaml")
    text = it.flow_file.read_text()
    it.flow_file.write_text(
        text.replace('owns: ["flowgen.flows."]', 'owns: ["flowgen.flows."]\n        reconcile_interval: 1s')
    )
    it.release(1)
    registry.stop()
    with _running(it, half=()) as (_, log):
        _wait_for(log, "snapshot applied")
        _wait_for(log, r"Unreachable|Connection refused")
        client = await nats_client.connect(nats.url)
        store = await client.jetstream().key_value(it.bucket)
        await store.put("others.key", b"not ours")
        await store.put("flowgen.flows.orders.eu", b"by hand")
        await store.delete("flowgen.flows.orders.us")
        await store.put("flowgen.flows.intruder", b"by hand")
        deadline = time.monotonic() + 20
        while (held := _values(await bucket(nats, it.bucket))) != _flows(1) | {"others.key": b"not ours"}:
            assert time.monotonic() < deadline, held.keys() ^ _flows(1).keys()
        await client.close()

        _wait_for(log, "repaired what was changed in the store")


async def test_a_store_that_is_away_for_a_while_gets_the_newest_release_when_it_is_back(
    example: Callable[..., Example], nats: Nats
) -> None:
    it = example("system_sync_flows.yaml")
    it.release(1)
    nats.stop()
    _pulled(it, 2)
    with _running(it) as (_, log):
        _wait_for(log, "NATS runs there")
        nats.start()
        _wait_for(log, "snapshot applied", 60)

    assert _values(await bucket(nats, it.bucket)) == _flows(2)


async def test_an_empty_release_does_not_empty_the_store(example: Callable[..., Example], nats: Nats) -> None:
    it = example("system_sync_flows.yaml")
    it.release(1)
    it.oras.push(it.reference, {"README.md": "no flow in here"})
    it.source()

    with pytest.raises(AssertionError, match="all 30 keys that the flow owns would go"):
        it.sink()

    assert _values(await bucket(nats, it.bucket)) == _flows(1)


@contextmanager
def _source(it: Example) -> Iterator[None]:
    process = subprocess.Popen(
        it.command("run", "--only", "source"),
        env={**os.environ, **it.environ}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


async def test_a_thousand_files_are_in_the_store_seconds_after_the_push(
    example: Callable[..., Example], nats: Nats, capsys: pytest.CaptureFixture[str]
) -> None:
    it = example("system_sync_flows.yaml")
    files = {f"flows/f{number:04d}.yaml": f"flow: {{name: f{number:04d}}}\n" for number in range(990)}
    files |= {f"flows/l{number}.yaml": f"flow: {{name: large{number}}}\n#" + "x" * 100_000 for number in range(10)}
    it.oras.push(it.reference, RELEASES[1])
    with _running(it) as (_, log), _source(it):
        _wait_for(log, "snapshot applied")
        it.oras.push(it.reference, files)
        began = time.monotonic()
        _wait_for(log, r"snapshot applied.*puts=1000", 60)
        took = time.monotonic() - began

    with capsys.disabled():
        print(f"\n1,000 files: {took:.2f} s from push to last KV write, with a look every second")
    assert len(await bucket(nats, it.bucket)) == 1000
