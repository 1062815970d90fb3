"""The registry client against real registries: what `oras` gets, byte for byte, and a registry that dies.

The comparison of times needs a quiet machine and is marked `long`; what it measured stands in docs/registries.md.
"""

import asyncio
import base64
import io
import json
import random
import statistics
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from connector.errors import RegistryError
from connector.oci.blob import Blobs, BlobStore
from connector.oci.hosts import Hosts
from connector.oci.platform import parse_platform
from connector.oci.reference import parse_reference
from connector.oci.registry import Registry as Client
from connector.oci.retry import RetryPolicy
from tests.fakes.clock import FakeClock
from tests.fakes.registry import PASSWORD, FakeRegistry
from tests.system.product import COMMAND
from tests.system.servers import HTPASSWD_PASSWORD, HTPASSWD_USER, Oras, Registry, Tool
from tools.stack.cache import go_tool
from tools.stack.ports import free_ports
from tools.stack.probes import http_answers
from tools.stack.registry import registry as registry_launch
from tools.stack.server import Launch, Port, Server

pytestmark = pytest.mark.system

RETRY = RetryPolicy(8, timedelta(milliseconds=200))


def some_files(seed: int, count: int = 12) -> dict[str, str | bytes]:
    chance = random.Random(seed)
    files: dict[str, str | bytes] = {
        f"d{index % 3}/f{index}.bin": chance.randbytes(chance.randint(0, 9000)) for index in range(count)
    }
    return files | {"large.bin": chance.randbytes(700_000)}


async def fetched(text: str, credentials: Path | None = None) -> dict[str, bytes]:
    """Title of each layer to its bytes, as our client fetches them."""
    async with Hosts() as hosts:
        client = Client(hosts, credentials, RETRY)
        reference = parse_reference(text)
        head = await client.head(reference)
        pulled = await client.manifest(reference, head.digest)
        blobs = await Blobs(client).fetch(reference, pulled.manifest.layers)
        return {
            layer.annotations["org.opencontainers.image.title"]: blobs[layer.digest].read()
            for layer in pulled.manifest.layers
        }


def pulled_by_oras(oras: Oras, folder: Path, text: str, *options: str) -> dict[str, bytes]:
    oras("pull", "--plain-http", "--no-tty", *options, "-o", str(folder), text)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("version", ["v3", "v2"])
async def test_what_oras_pushed_comes_as_oras_pulls_it(
    version: str, request: pytest.FixtureRequest, oras: Oras, unique: str, tmp_path: Path
) -> None:
    registry: Registry = request.getfixturevalue("registry" if version == "v3" else "registry_v2")
    text = f"{registry.host}/{unique}:prod"
    oras.push(text, some_files(1))

    assert await fetched(text) == pulled_by_oras(oras, tmp_path / "oras", text)


async def test_a_registry_with_users_lets_us_in_by_both_formats_of_credentials(
    registry_htpasswd: Registry, oras: Oras, unique: str, tmp_path: Path
) -> None:
    text = f"{registry_htpasswd.host}/{unique}:prod"
    login = ("-u", HTPASSWD_USER, "-p", HTPASSWD_PASSWORD)
    oras.push(text, some_files(2), *login)
    oras("login", "--plain-http", "--registry-config", str(tmp_path / "docker.json"), *login, registry_htpasswd.host)
    (tmp_path / "plain.json").write_text(json.dumps({"username": HTPASSWD_USER, "password": HTPASSWD_PASSWORD}))

    expected = pulled_by_oras(oras, tmp_path / "oras", text, *login)
    assert await fetched(text, tmp_path / "docker.json") == expected
    assert await fetched(text, tmp_path / "plain.json") == expected
    with pytest.raises(RegistryError) as caught:
        await fetched(text)
    assert caught.value.reason == "Unauthorized"


async def test_an_index_that_crane_made_is_resolved_as_crane_does(
    registry: Registry, oras: Oras, crane: Tool, unique: str
) -> None:
    for architecture in ("amd64", "arm64"):
        oras.push(
            f"{registry.host}/{unique}:{architecture}", {"a": architecture},
            "--artifact-platform", f"linux/{architecture}",
        )  # fmt: skip
    children = [f"{registry.host}/{unique}:{architecture}" for architecture in ("amd64", "arm64")]
    oras("manifest", "index", "create", "--plain-http", f"{registry.host}/{unique}:both", "amd64", "arm64")

    async with Hosts() as hosts:
        client = Client(hosts, None, RETRY)
        reference = parse_reference(f"{registry.host}/{unique}:both")
        head = await client.head(reference)
        arm = await client.manifest(reference, head.digest, parse_platform("linux/arm64"))

    assert head.digest == crane("digest", "--insecure", f"{registry.host}/{unique}:both").strip()
    assert arm.manifest.digest == crane("digest", "--insecure", children[1]).strip()
    assert arm.from_index


async def test_a_registry_that_dies_amid_a_blob_and_comes_back_is_gone_on_with(
    registry: Registry, oras: Oras, unique: str, tmp_path: Path
) -> None:
    content = random.Random(3).randbytes(40_000_000)
    text = f"{registry.host}/{unique}:prod"
    oras.push(text, {"large.bin": content})
    progress: list[int] = []
    died = asyncio.Event()

    def watch(count: int) -> None:
        progress.append(count)
        if sum(progress) > 5_000_000 and not died.is_set():
            registry.kill()
            died.set()

    async with Hosts() as hosts:
        client = Client(hosts, None, RETRY)
        reference = parse_reference(text)
        head = await client.head(reference)
        pulled = await client.manifest(reference, head.digest)
        fetching = asyncio.ensure_future(
            Blobs(client, BlobStore(tmp_path)).fetch(reference, pulled.manifest.layers, watch)
        )
        await died.wait()
        registry.start()  # here, for it would end with the thread that started it
        blobs = await fetching

    assert blobs[pulled.manifest.layers[0].digest].read() == content
    assert sum(progress) == len(content)


class TokenServer:
    """Signs tokens as a registry's authorization service does (distribution's token specification, RS256, x5c)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate = folder / "cert.pem"
        self._openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=token.test",
            "-keyout", str(folder / "key.pem"), "-out", str(self.certificate),
        )  # fmt: skip
        self._chain = "".join(self.certificate.read_text().splitlines()[1:-1])

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Basic " + base64.b64encode(f"ci:{PASSWORD}".encode()).decode():
            return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401)
        access = []
        for scope in " ".join(request.query.getall("scope", [])).split():
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {"iss": "us", "sub": "ci", "aud": "them", "jti": uuid.uuid4().hex, "access": access}
        token = self._signed(claims | {"iat": now, "nbf": now - 5, "exp": now + 300})
        return web.json_response({"token": token, "expires_in": 300})

    def _signed(self, claims: dict[str, object]) -> str:
        head = {"typ": "JWT", "alg": "RS256", "x5c": [self._chain]}
        text = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        return f"{text}.{_base64(self._openssl('dgst', '-sha256', '-sign', str(self.folder / 'key.pem'), stdin=text))}"

    def _openssl(self, *arguments: str, stdin: str = "") -> bytes:
        return subprocess.run(
            ["openssl", *arguments], input=stdin.encode(), capture_output=True, timeout=20, check=True
        ).stdout  # fmt: skip


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


async def test_a_registry_with_a_token_server_lets_us_in_and_a_quiet_tick_is_one_head(
    oras: Oras, unique: str, tmp_path: Path
) -> None:
    tokens = TokenServer(tmp_path)
    (port,) = free_ports(1)
    with FakeRegistry() as realm, ExitStack() as ends:
        realm.answer(tokens.answer, on="/token", times=1000)
        launch = registry_launch(go_tool("registry"), tmp_path / "registry", Port(port))
        settings = {
            "REALM": f"{realm.url}/token",
            "SERVICE": "them",
            "ISSUER": "us",
            "ROOTCERTBUNDLE": tokens.certificate,
        }
        environment = {f"REGISTRY_AUTH_TOKEN_{name}": str(value) for name, value in settings.items()}
        server = Server(replace(launch, environment={**launch.environment, **environment}), dies_with_us=True)
        ends.callback(server.kill)
        server.start()
        text = f"{launch.address}/{unique}:prod"
        login = ("-u", "ci", "-p", PASSWORD)
        oras.push(text, some_files(7), *login)
        (tmp_path / "c.json").write_text(json.dumps({"username": "ci", "password": PASSWORD}))
        expected = pulled_by_oras(oras, tmp_path / "oras", text, *login)

        assert await fetched(text, tmp_path / "c.json") == expected
        with pytest.raises(RegistryError) as caught:
            await fetched(text)
        assert caught.value.reason == "Unauthorized"

        clock = FakeClock()
        async with Hosts(clock=clock) as hosts:
            client = Client(hosts, tmp_path / "c.json", RETRY)
            await client.head(parse_reference(text))
            asked = len(realm.requests)
            for _ in range(3):
                clock.advance(1)  # beyond the moment in which a HEAD is shared
                await client.head(parse_reference(text))
            assert len(realm.requests) == asked
        lines = [
            line
            for line in launch.log.read_text().splitlines()
            if "HEAD" in line and "oci-sync" in line and '" 200 ' in line
        ]
        assert len(lines) >= 4


async def test_cranes_own_registry_serves_us_what_skopeo_copied_there(
    registry: Registry, oras: Oras, crane: Tool, skopeo: Tool, unique: str, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    oras.push(f"{registry.host}/{unique}:prod", some_files(8))
    serve = [str(crane.binary), "registry", "serve", "--address", f"127.0.0.1:{port}"]
    launch = Launch("crane", tmp_path / "crane", serve, (Port(port),), lambda: http_answers(port, "/v2/"))
    with ExitStack() as ends:
        server = Server(launch, dies_with_us=True)
        ends.callback(server.kill)
        server.start()
        plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
        copy = f"{launch.address}/{unique}:prod"
        skopeo("--insecure-policy", "copy", *plain, f"docker://{registry.host}/{unique}:prod", f"docker://{copy}")

        assert await fetched(copy) == await fetched(f"{registry.host}/{unique}:prod")


_PULL = """
import asyncio, json, sys, time
from pathlib import Path
from connector.oci.blob import Blobs, BlobStore
from connector.oci.hosts import Hosts
from connector.oci.reference import parse_reference
from connector.oci.registry import Registry

def kibibytes(line: str) -> int:
    # Not ru_maxrss, which begins at what the parent had when it started us.
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(text.split()[1]) for text in status if text.startswith(line))

async def main() -> None:
    async with Hosts() as hosts:
        client, reference = Registry(hosts), parse_reference(sys.argv[1])
        Path("/proc/self/clear_refs").write_text("5")  # the peak, VmHWM, is counted anew from here
        before = kibibytes("VmRSS")
        started = time.monotonic()
        head = await client.head(reference)
        pulled = await client.manifest(reference, head.digest)
        blobs = await Blobs(client, BlobStore(Path(sys.argv[2]))).fetch(reference, pulled.manifest.layers)
        seconds = time.monotonic() - started
        print(json.dumps({"blobs": len(blobs), "seconds": seconds, "grown_kib": kibibytes("VmHWM") - before}))

asyncio.run(main())
"""


def pull_in_a_process(text: str, spool: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", _PULL, text, str(spool)], capture_output=True, text=True, timeout=120, check=True
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def test_a_pull_of_many_and_of_large_blobs_adds_little_memory(
    registry: Registry, oras: Oras, unique: str, tmp_path: Path
) -> None:
    chance = random.Random(4)
    files: dict[str, str | bytes] = {f"small{index}": chance.randbytes(200_000) for index in range(300)}
    files |= {f"large{index}": chance.randbytes(20_000_000) for index in range(3)}
    oras.push(f"{registry.host}/{unique}:prod", files)

    result = pull_in_a_process(f"{registry.host}/{unique}:prod", tmp_path)

    assert result["blobs"] == 303
    assert result["grown_kib"] < 32 * 1024


@pytest.mark.long
def test_a_cold_pull_of_a_thousand_layers_takes_at_most_a_fifth_longer_than_oras(
    registry: Registry, oras: Oras, unique: str, tmp_path: Path
) -> None:
    chance = random.Random(5)
    text = f"{registry.host}/{unique}:prod"
    oras.push(text, {f"d/f{index}.yaml": chance.randbytes(4096) for index in range(1000)})
    ours: list[float] = []
    theirs: list[float] = []

    for attempt in range(5):
        ours.append(pull_in_a_process(text, tmp_path / f"ours{attempt}")["seconds"])
        started = time.monotonic()
        oras("pull", "--plain-http", "--no-tty", "-o", str(tmp_path / f"theirs{attempt}"), text)
        theirs.append(time.monotonic() - started)

    print(f"ours {sorted(ours)}, oras {sorted(theirs)}")
    assert statistics.median(ours) <= 1.2 * statistics.median(theirs)


@pytest.fixture(params=["v3", "v2", "crane"])
def peer(request: pytest.FixtureRequest, crane: Tool, tmp_path: Path) -> Iterator[str]:
    """host:port of registries of three makers."""
    if request.param != "crane":
        yield request.getfixturevalue("registry" if request.param == "v3" else "registry_v2").host
        return
    (port,) = free_ports(1)
    serve = [str(crane.binary), "registry", "serve", "--address", f"127.0.0.1:{port}"]
    launch = Launch("crane", tmp_path / "crane", serve, (Port(port),), lambda: http_answers(port, "/v2/"))
    server = Server(launch, dies_with_us=True)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()


def test_images_that_crane_and_skopeo_pushed_come_as_crane_exports_them(
    peer: str, crane: Tool, skopeo: Tool, unique: str, tmp_path: Path
) -> None:
    """skopeo's v2s2 is what `docker push` sends: Docker's own media types, gzip layers, a config."""
    chance = random.Random(7)
    first = {f"etc/f{index}.bin": chance.randbytes(chance.randint(0, 20_000)) for index in range(8)}
    second = {"etc/f1.bin": b"replaced", "etc/.wh.f2.bin": b"", "added/deep/er.txt": b"1\n"}
    layers = [archive(tmp_path / f"{number}.tar", files) for number, files in enumerate((first, second))]
    by_crane, by_skopeo = f"{peer}/{unique}:crane", f"{peer}/{unique}:docker"
    crane("append", "--insecure", "-f", str(layers[0]), "-f", str(layers[1]), "-t", by_crane)
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
    skopeo("--insecure-policy", "copy", "-f", "v2s2", *plain, f"docker://{by_crane}", f"docker://{by_skopeo}")

    for reference in (by_crane, by_skopeo):
        expected = exported(crane, reference, tmp_path / "export.tar")
        assert expected.keys() == (first.keys() | second.keys()) - {"etc/f2.bin", "etc/.wh.f2.bin"}
        assert pulled_by_us(reference, tmp_path / "pulled" / reference.rpartition(":")[2]) == expected

    docker = json.loads(crane("manifest", "--insecure", by_skopeo))
    assert docker["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"


def archive(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def exported(crane: Tool, reference: str, path: Path) -> dict[str, bytes]:
    crane("export", "--insecure", reference, str(path))
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member)) for member in tar if member.isfile()]
        return {name: stream.read() for name, stream in members if stream is not None}


def pulled_by_us(reference: str, folder: Path) -> dict[str, bytes]:
    command = [*COMMAND, "pull", reference, "-o", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
