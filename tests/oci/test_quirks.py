"""Each row of the quirks table, played by a registry that does just that."""

import base64
import gzip
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from connector.errors import CredentialsError, RegistryError
from connector.http_client import TransportName
from connector.oci.auth import authorize
from connector.oci.blob import Blobs
from connector.oci.challenge import Challenge
from connector.oci.credential_helpers import docker
from connector.oci.digest import digest_of
from connector.oci.hosts import Hosts, HostSettings
from connector.oci.quirks import QUIRKS, Quirk, quirks_of
from connector.oci.reference import parse_reference
from connector.oci.registry import Registry
from connector.oci.secret import Credential, Secret
from connector.oci.trust import origin_of, refusal_of_realm
from tests.certificates import self_signed
from tests.fakes.clock import FakeClock
from tests.fakes.registry import MANIFEST, PASSWORD, FakeRegistry, Published
from tests.oci.conftest import RETRY

CONTENT = b"a: 1\n" * 200_000


@dataclass
class Stage:
    """A registry with one artifact, and us."""

    fake: FakeRegistry
    other: FakeRegistry
    hosts: Hosts
    clock: FakeClock
    published: Published
    login: Path
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    transport: TransportName

    async def pull(self) -> bytes:
        """A tick from HEAD to the last blob."""
        self.clock.advance(1)
        registry = Registry(self.hosts, self.login, RETRY)
        reference = parse_reference(self.fake.reference("org/app"))
        head = await registry.head(reference)
        pulled = await registry.manifest(reference, head.digest)
        assert pulled.artifact_digest == self.published.digest
        blobs = await Blobs(registry).fetch(reference, pulled.manifest.layers)
        return blobs[pulled.manifest.layers[0].digest].read()


PLAYS: dict[str, Callable[[Stage], Awaitable[None]]] = {}


def plays(play: Callable[[Stage], Awaitable[None]]) -> Callable[[Stage], Awaitable[None]]:
    PLAYS[play.__name__] = play
    return play


@plays
async def off_site_manifest(stage: Stage) -> None:
    stage.fake.auth = "basic"
    stage.fake.redirect(f"{stage.other.url}/-/v2/packages", on="GET /v2/org/app/manifests/", times=3)
    stage.other.fail_next(200, {"Content-Type": "text/html"}, body=b"<html>", times=3)

    with pytest.raises(RegistryError, match="off-site") as caught:
        await stage.pull()
    assert caught.value.transient
    assert stage.other.secrets_seen == set()


@plays
async def micro_retry_after(stage: Stage) -> None:
    stage.fake.fail_next(429, {"Retry-After": "880µs, allowed 44000/minute"})

    await stage.pull()
    assert stage.clock.slept[0] >= 1


@plays
async def opaque_token(stage: Stage) -> None:
    stage.fake.auth = "bearer"
    stage.fake.token_answer = {"expires_in": None}

    await stage.pull()
    stage.clock.advance(50)
    await stage.pull()
    assert stage.fake.count("/token") == 1
    stage.clock.advance(5)
    await stage.pull()
    assert stage.fake.count("/token") == 2


@plays
async def expired_is_403(stage: Stage) -> None:
    stage.fake.auth = "basic"
    await stage.pull()
    stage.fake.users["ci"] = "the-next-12-hours"
    stage.fake.denied_status = 403
    stage.login.write_text(json.dumps({"username": "ci", "password": "the-next-12-hours"}))
    stage.fake.challenges = ["Basic"]

    await stage.pull()


@plays
async def expired_is_400(stage: Stage) -> None:
    stage.fake.auth = "bearer"
    await stage.pull()
    stage.fake.forget_tokens()
    stage.fake.denied_status = 400

    await stage.pull()


@plays
async def no_digest_on_get(stage: Stage) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=stage.published.body, content_type=MANIFEST)

    stage.fake.answer(answer, on="GET /v2/org/app/manifests/")

    await stage.pull()


@plays
async def no_blob_head(stage: Stage) -> None:
    await stage.pull()

    assert stage.fake.count("HEAD /v2/org/app/blobs") == 0


@plays
async def pull_through(stage: Stage) -> None:
    hidden, stage.fake.blobs = stage.fake.blobs, {}

    async def import_it(request: web.BaseRequest) -> web.StreamResponse:
        stage.fake.blobs = hidden
        return web.Response(body=stage.published.body, content_type=MANIFEST)

    stage.fake.answer(import_it, on="GET /v2/org/app/manifests/")

    assert await stage.pull() == CONTENT


@plays
async def storage_refuses_authorization(stage: Stage) -> None:
    stage.fake.auth = "bearer"
    stage.other.blobs = stage.fake.blobs

    async def storage(request: web.BaseRequest) -> web.StreamResponse:
        if "Authorization" in request.headers:
            return web.Response(status=400)
        return web.Response(body=CONTENT)

    stage.other.answer(storage)
    stage.fake.redirect(stage.other.url + "/storage/{digest}", on="/blobs/")

    assert await stage.pull() == CONTENT


@plays
async def json_key_password(stage: Stage) -> None:
    key = '{"type": "service_account", "private_key": "a:b\\nc"}'
    stage.fake.auth, stage.fake.users = "basic", {"_json_key": key}
    auth = base64.b64encode(f"_json_key:{key}".encode()).decode()
    stage.login.write_text(json.dumps({"auths": {stage.fake.address: {"auth": auth}}}))

    assert await stage.pull() == CONTENT


@plays
async def sizes_differ(stage: Stage) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Docker-Content-Digest": stage.published.digest, "Content-Type": MANIFEST, "Content-Length": "7"}
        return web.Response(headers=headers)

    stage.fake.answer(answer, on="HEAD")

    assert await stage.pull() == CONTENT


@plays
async def null_guid(stage: Stage) -> None:
    stage.fake.auth = "bearer"
    stage.fake.refresh_tokens = {"refresh"}
    user = "00000000-0000-0000-0000-000000000000"
    stage.login.write_text(json.dumps({"auths": {stage.fake.address: {"username": user, "password": "refresh"}}}))

    await stage.pull()
    assert stage.fake.count("POST /token") == 1


@plays
async def helper_refresh_token(stage: Stage) -> None:
    program = stage.folder / "docker-credential-acr-env"
    program.write_text("""#!/bin/sh\necho '{"Username": "<token>", "Secret": "refresh"}'\n""")
    program.chmod(0o700)
    stage.monkeypatch.setenv("PATH", str(stage.folder), prepend=":")
    stage.fake.auth = "bearer"
    stage.fake.refresh_tokens = {"refresh"}
    stage.login.write_text(json.dumps({"credHelpers": {stage.fake.address: "acr-env"}}))
    assert await docker.credential("acr-env", "x") is not None

    await stage.pull()
    assert stage.fake.count("POST /token") == 1


@plays
async def accept_decides(stage: Stage) -> None:
    await stage.pull()

    manifests = [seen for seen in stage.fake.requests if "/manifests/" in seen.path]
    assert all(seen.headers["accept"].count("application/vnd.") == 4 for seen in manifests)


@plays
async def challenge_without_scope(stage: Stage) -> None:
    stage.fake.auth = "bearer"
    stage.fake.challenge_scope = False

    await stage.pull()
    [token] = [seen for seen in stage.fake.requests if seen.path.startswith("/token")]
    assert "scope=repository%3Aorg%2Fapp%3Apull" in token.path.replace(":", "%3A").replace("/app", "%2Fapp")


@plays
async def absent_is_403(stage: Stage) -> None:
    stage.fake.fail_next(403, code="DENIED")

    with pytest.raises(RegistryError, match="denied or does not exist"):
        await stage.pull()


@plays
async def other_scheme_realm(stage: Stage) -> None:
    self_signed(stage.folder, "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(stage.folder / "cert.pem", stage.folder / "key.pem")
    with FakeRegistry(tls=context, auth="bearer") as secure:
        secure.publish("org/app", "prod", {"a.yaml": CONTENT})
        trusting = HostSettings(plain_http=False, ca_file=stage.folder / "cert.pem")
        stage.fake.auth, stage.fake.realm = "bearer", f"{secure.url}/token"
        secure.realm = f"{stage.fake.url}/token"
        async with Hosts({secure.address: trusting}, transport=stage.transport, environment_proxies=False) as hosts:
            with pytest.raises(RegistryError):  # two fakes do not know each other's tokens
                await Registry(hosts, stage.login, RETRY).head(parse_reference(stage.fake.reference("org/app")))
            assert secure.requests[0].headers["authorization"].startswith("Basic ")
            with pytest.raises(CredentialsError, match="plain HTTP"):
                await Registry(hosts, stage.login, RETRY).head(parse_reference(secure.reference("org/app")))
    assert stage.fake.count("/token") == 0


@plays
async def range_ignored(stage: Stage) -> None:
    stage.fake.ranges = False
    stage.fake.cut_after(600_000)

    assert await stage.pull() == CONTENT


@plays
async def compressed_get(stage: Stage) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Content-Encoding": "gzip", "Content-Type": MANIFEST}
        return web.Response(body=gzip.compress(stage.published.body), headers=headers)

    stage.fake.answer(answer, on="GET /v2/org/app/manifests/")

    assert await stage.pull() == CONTENT


@plays
async def head_without_type(stage: Stage) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.Response(headers={"Docker-Content-Digest": stage.published.digest})
        response.headers.pop("Content-Type", None)
        return response

    stage.fake.answer(answer, on="HEAD")

    assert await stage.pull() == CONTENT


@plays
async def offline_token(stage: Stage) -> None:
    stage.fake.auth = "bearer"
    await stage.pull()

    assert stage.fake.count("offline_token") == 0


@plays
async def hub_names(stage: Stage) -> None:
    auths = {"https://index.docker.io/v1/": {"username": "ci", "password": PASSWORD}}
    stage.login.write_text(json.dumps({"auths": auths}))
    stage.fake.auth = "basic"
    published = stage.fake.publish("library/alpine", "latest", {"a": b"1"})
    as_proxy = HostSettings(proxy=stage.fake.url, plain_http=True)
    names = ("alpine", "docker.io/alpine", "index.docker.io/library/alpine", "registry-1.docker.io/library/alpine")

    async with Hosts({"docker.io": as_proxy}, transport=stage.transport, environment_proxies=False) as hosts:
        for name in names:
            head = await Registry(hosts, stage.login, RETRY).head(parse_reference(name))
            assert head.digest == published.digest

    assert {seen.headers["host"] for seen in stage.fake.requests} == {"registry-1.docker.io"}


@plays
async def pull_quota(stage: Stage) -> None:
    stage.fake.rate_limit_headers = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "3;w=21600"}
    registry = Registry(stage.hosts, stage.login, RETRY)

    await registry.head(parse_reference(stage.fake.reference("org/app")))
    assert [seen.method for seen in stage.fake.requests] == ["HEAD"]
    assert stage.hosts.rate_limits()[stage.fake.address].remaining == 3


@plays
async def no_digest(stage: Stage) -> None:
    stage.fake.digest_header = False

    assert await stage.pull() == CONTENT
    assert stage.fake.count("GET /v2/org/app/manifests/") == 1


@plays
async def encoded_blobs(stage: Stage) -> None:
    async def encode(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=gzip.compress(CONTENT), headers={"Content-Encoding": "gzip"})

    stage.fake.answer(encode, on="/blobs/", times=5)

    assert await stage.pull() == CONTENT
    assert all(seen.headers["accept-encoding"] == "identity" for seen in stage.fake.requests)


@plays
async def lost_accept(stage: Stage) -> None:
    stage.fake.auth = "bearer"
    await stage.pull()

    heads = [seen for seen in stage.fake.requests if seen.method == "HEAD"]
    assert len({seen.headers["accept"] for seen in heads}) == 1


@plays
async def head_is_405(stage: Stage) -> None:
    stage.fake.fail_next(405, on="HEAD")

    assert await stage.pull() == CONTENT


@plays
async def mixed_policy(stage: Stage) -> None:
    stage.fake.auth = "basic"
    stage.fake.fail_next(200, on="/v2/ ", times=5)

    assert await stage.pull() == CONTENT
    assert all("/org/app/" in seen.path for seen in stage.fake.requests)


@plays
async def foreign_realm(stage: Stage) -> None:
    # By the rules alone: on the wire both would be names of this machine, and those are a rule of their own.
    for registry, realm in (
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"),
        ("https://registry-1.docker.io", "https://auth.docker.io/token"),
    ):
        assert not refusal_of_realm(origin_of(registry), origin_of(realm), ("8.8.8.8",), (), with_credentials=True)
    challenge = Challenge("bearer", {"realm": "https://gitlab.com/jwt/auth", "service": "container_registry"})
    request = next(authorize([challenge], "repository:a:pull", Credential("e", "u", Secret("p"))))
    assert request.url.startswith("https://gitlab.com/jwt/auth?service=container_registry&scope=")


@pytest.mark.parametrize("quirk", QUIRKS, ids=[quirk.name for quirk in QUIRKS])
async def test_we_cope_with(
    quirk: Quirk,
    fake: FakeRegistry,
    other: FakeRegistry,
    hosts: Hosts,
    clock: FakeClock,
    login: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    transport: TransportName,
) -> None:
    published = fake.publish("org/app", "prod", {"a.yaml": CONTENT})
    assert published.layers == (digest_of(CONTENT),)

    await PLAYS[quirk.name](Stage(fake, other, hosts, clock, published, login, tmp_path, monkeypatch, transport))


def test_every_play_is_of_a_row_and_names_are_unique() -> None:
    names = [quirk.name for quirk in QUIRKS]

    assert sorted(PLAYS) == sorted(names)


@pytest.mark.parametrize(
    ("host", "registries"),
    [
        ("ghcr.io", {"GHCR"}),
        ("123.dkr.ecr.eu-west-1.amazonaws.com", {"Amazon ECR"}),
        ("eu.gcr.io", {"Google Artifact Registry"}),
        ("x.azurecr.io:443", {"Azure ACR"}),
        ("azurecr.io.evil.example", set()),
        ("127.0.0.1:5000", set()),
    ],
)
def test_the_rows_of_a_host_are_found(host: str, registries: set[str]) -> None:
    assert {quirk.registry for quirk in quirks_of(host)} == registries


@pytest.mark.parametrize("quirk", QUIRKS, ids=[quirk.name for quirk in QUIRKS])
def test_the_documentation_holds_the_row(quirk: Quirk) -> None:
    page = Path(__file__).parents[2] / "docs" / "registries.md"

    assert f"| {quirk.registry} | {quirk.does} | {quirk.rule} |" in page.read_text(encoding="utf-8")
