"""What registries do that the specification does not say, and the rule of ours that copes with it. Data only.

The rules hold for every registry, so an unknown one that does the same is no surprise; the table says who taught us.
`tests/oci/test_quirks.py` plays each row, `docs/registries.md` shows them, `oci-sync doctor` names those of the
registry that it looks at.
"""

from msgspec import Struct


class Quirk(Struct, frozen=True):
    """One row. `hosts` are names or endings of names (`.azurecr.io`) of hosted registries; empty for software."""

    name: str
    registry: str
    hosts: tuple[str, ...]
    does: str
    rule: str


def quirks_of(host: str) -> tuple[Quirk, ...]:
    """The rows for the registry at this `host[:port]`."""
    name = host.partition(":")[0].lower()
    return tuple(
        quirk
        for quirk in QUIRKS
        if any(name == known.lstrip(".") or (known.startswith(".") and name.endswith(known)) for known in quirk.hosts)
    )


_GHCR = ("ghcr.io",)
_ECR = (".amazonaws.com",)
_ECR_PUBLIC = ("public.ecr.aws",)
_GAR = (".pkg.dev", ".gcr.io")
_ACR = (".azurecr.io",)
_ARTIFACTORY = (".jfrog.io",)
_HUB = ("registry-1.docker.io",)
_QUAY = ("quay.io", "registry.redhat.io", "registry.access.redhat.com")
_GITLAB = ("registry.gitlab.com",)

QUIRKS = (
    Quirk("off_site_manifest", "GHCR", _GHCR, "may redirect a manifest to GitHub's web site, which answers with a page",
          "followed without credentials; the page is a transient error that says we were sent off-site"),
    Quirk("micro_retry_after", "GHCR", _GHCR, "answers 429 with `Retry-After: 880µs, allowed 44000/minute`",
          "durations are understood; at least a second is waited"),
    Quirk("opaque_token", "GHCR", _GHCR, "its tokens are opaque and may come without `expires_in`",
          "tokens are never looked into; a life that is not stated is a minute"),
    Quirk("expired_is_403", "Amazon ECR", _ECR, "answers 403 in plain text when the 12-hour password has expired",
          "a 403 that carried a header: credentials read and helpers asked anew, one replay"),
    Quirk("expired_is_400", "Amazon ECR Public", _ECR_PUBLIC, "answers 400 without a challenge to an expired token",
          "a 400 that carried a token: a new one by the last challenge, one replay"),
    Quirk("no_digest_on_get", "Amazon ECR", _ECR, "names no digest in the answer to a GET of a manifest",
          "the hash of the body is the digest"),
    Quirk("no_blob_head", "Amazon ECR Public", _ECR_PUBLIC, "answers 401 to every HEAD of a blob",
          "blobs are never asked about; the descriptor says all"),
    Quirk("pull_through", "Amazon ECR", _ECR, "a pull-through cache knows a blob only after its manifest was read",
          "a pull reads the manifest by GET before its first blob, always"),
    Quirk("storage_refuses_authorization", "Amazon ECR", _ECR, "redirects blobs to storage that refuses Authorization",
          "no header of ours crosses to another origin"),
    Quirk("json_key_password", "Google Artifact Registry", _GAR, "the password of `_json_key` is JSON with colons",
          "user name and password are split at the first colon"),
    Quirk("sizes_differ", "Google Artifact Registry", _GAR, "Content-Length of HEAD and GET of a manifest differ",
          "the sizes of manifests are never compared"),
    Quirk("null_guid", "Azure ACR", _ACR, "the null GUID as user name means that the password is a refresh token",
          "it goes by OAuth2 POST, and by GET if POST is not known"),
    Quirk("helper_refresh_token", "Azure ACR", _ACR, "its helper returns a refresh token under the user name `<token>`",
          "it goes by OAuth2 POST"),
    Quirk("accept_decides", "Azure ACR", _ACR, "answers 404 where Accept does not list the stored type",
          "all four types are accepted, on every request for a manifest"),
    Quirk("challenge_without_scope", "JFrog Artifactory", _ARTIFACTORY, "its challenge to a HEAD names no scope",
          "the scope is ours, merged with what the challenge says"),
    Quirk("absent_is_403", "JFrog Artifactory", _ARTIFACTORY, "a virtual repository answers 403 for an absent tag",
          "the message says: denied or does not exist"),
    Quirk("other_scheme_realm", "JFrog Artifactory", _ARTIFACTORY, "behind a proxy, its realm may have another scheme",
          "an https realm of the same host is taken from a plain HTTP registry, never the reverse"),
    Quirk("range_ignored", "JFrog Artifactory", _ARTIFACTORY, "announces ranges and answers 200 with the whole blob",
          "a 200 to a Range begins anew and is never appended"),
    Quirk("compressed_get", "Harbor", (), "compresses the manifest of a GET, so that its size is not that of the HEAD",
          "identity is asked for; a compressed answer is decoded where the digest says so"),
    Quirk("head_without_type", "Harbor", (), "its proxy cache has answered HEAD without type and length",
          "only the digest is needed of a HEAD"),
    Quirk("offline_token", "Harbor", (), "answered 401 to a token request with `offline_token=true`",
          "it is not sent"),
    Quirk("hub_names", "Docker Hub", _HUB, "has three names, and logins are kept under `https://index.docker.io/v1/`",
          "the three are one host, for references and for credentials"),
    Quirk("pull_quota", "Docker Hub", _HUB, "counts GETs of manifests as pulls, and tells the quota in headers",
          "a quiet tick is one HEAD; the headers are kept for the status"),
    Quirk("no_digest", "Quay, Red Hat", _QUAY, "names no digest at all", "the manifest is read once, and hashed"),
    Quirk("encoded_blobs", "Quay, Red Hat", _QUAY, "compresses blobs for who accepts gzip",
          "identity is asked for; what is hashed are the bytes that the descriptor describes"),
    Quirk("lost_accept", "Quay, Red Hat", _QUAY, "serves schema 1 to a replay that lost its Accept header",
          "a replay is the same request with one header changed"),
    Quirk("head_is_405", "distribution 2", (), "has answered 405 to a HEAD with a token",
          "405 and 501 mean: ask by GET"),
    Quirk("mixed_policy", "zot", (), "answers 200 to /v2/ while a repository needs a login",
          "there is no ping; the challenge of the real request counts"),
    Quirk("foreign_realm", "GitLab", _GITLAB, "its realm is on another host of its domain",
          "one registrable domain, or a pair that is listed, may get the credentials"),
)  # fmt: skip
