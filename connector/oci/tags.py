"""The tags of a repository, for a person who looks for the right one; a tick never asks for them.

Rules. (1) Pages are followed by `Link`, on the same origin and path only, or by `last=` where the link leads elsewhere.
(2) Bounded whatever the registry sends: 200 pages, 100,000 tags, 4 MiB a page; a page that brings nothing new ends it.
(3) What is no tag by the grammar is left out and counted in one warning.
"""

import logging
import re
from urllib.parse import urlencode, urljoin, urlsplit

from connector.errors import RegistryError
from connector.http_client import HttpFailure, Response
from connector.oci.answers import clean, failure_of, not_a_registry
from connector.oci.exchange import Ask
from connector.oci.reference import TAG, Reference
from connector.oci.registry import Registry
from connector.oci.strict_json import parse_json

_LOG = logging.getLogger(__name__)

_LINK = re.compile(r"\s*<([^<>]{1,2000})>\s*;[^,]*\brel\s*=\s*\"?next\"?", re.IGNORECASE)
_MOST_PAGES = 200
_MOST_TAGS = 100_000
_MAX_PAGE_BYTES = 4 << 20
_PAGE_SIZE = 1000  # more is an error at Amazon ECR


async def list_tags(registry: Registry, reference: Reference) -> tuple[str, ...]:
    """All tags in the order the registry gives them, each once. Raises RegistryError, CredentialsError."""
    path = f"/v2/{reference.repository}/tags/list"
    query: str | None = urlencode({"n": _PAGE_SIZE})
    tags: dict[str, None] = {}
    odd = 0
    for _ in range(_MOST_PAGES):
        ask = Ask(f"listing the tags of {reference}", "GET", f"{path}?{query}", {"Accept": "application/json"})
        page, link = await registry.exchange.attempts(lambda ask=ask: _page(registry, reference, ask))  # type: ignore[misc]
        good = [tag for tag in page if TAG.fullmatch(tag)]
        odd += len(page) - len(good)
        before = len(tags)
        tags.update(dict.fromkeys(good))
        try:
            query = _next_query(link, path, good)
        except ValueError as error:
            raise _bad_link(reference, link, ask.doing) from error
        if query is None or len(tags) == before or len(tags) >= _MOST_TAGS:
            break
    if odd:
        _LOG.warning("%s lists %d tags that are none by the grammar; they are left out", reference.registry, odd)
    return tuple(tags)[:_MOST_TAGS]


async def _page(registry: Registry, reference: Reference, ask: Ask) -> tuple[list[str], str]:
    async with await registry.exchange.send(reference, ask) as response:
        try:
            body = await response.body(_MAX_PAGE_BYTES)
        except HttpFailure as failure:
            raise failure_of(failure, ask.doing, reference.api_host) from failure
        return _tags(response, body, ask.doing), response.header("link")


def _tags(response: Response, body: bytes, doing: str) -> list[str]:
    try:
        document = parse_json(body)
        tags = [] if document["tags"] is None else document["tags"]
    except (ValueError, LookupError, TypeError) as error:
        raise _no_list(response, doing) from error
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise _no_list(response, doing)
    return tags


def _no_list(response: Response, doing: str) -> RegistryError:
    return not_a_registry(response, "with something that is no list of tags", doing)


def _bad_link(reference: Reference, link: str, doing: str) -> RegistryError:
    return RegistryError(
        reason="NotARegistry",
        doing=doing,
        cause=f"{reference.api_host} sent a Link header that holds no URL: {clean(link)!r}",
        remedy="check for a proxy in between (operator); if there is none, ask who runs the registry",
        transient=False,
    )


def _next_query(link: str, path: str, page: list[str]) -> str | None:
    """The query of the next page; None where this was the last. Raises ValueError for a link that is no URL."""
    match = _LINK.match(link)
    if match is None or not page:
        return None
    link_target: str = match[1]
    target = urlsplit(urljoin(f"https://registry.invalid{path}", link_target))
    if target.netloc == "registry.invalid" and target.path == path:
        return target.query  # as it is: it may be a cursor that the registry has signed
    return urlencode({"n": _PAGE_SIZE, "last": page[-1]})  # Artifactory has sent links that lead elsewhere
