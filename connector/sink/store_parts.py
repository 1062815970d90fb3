"""What several tasks of the sink half need alike: an optional package, a template, an address, an error. Pure."""

from collections.abc import Collection
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from connector.config.template import compile_template, variables_of
from connector.errors import ConfigError, SinkError


def optional(module: str, *, package: str, extra: str, doing: str) -> Any:
    """The module of a package that only some flows need. Raises ConfigError where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            reason="BadValue",
            doing=doing,
            cause=f"the package {package} is not installed",
            remedy=f"pip install 'oci-sync[{extra}]' (operator)",
        ) from error


def template_problems(place: str, text: str, names: Collection[str]) -> list[str]:
    """What is wrong with a template at `place`, over values of these names; [] where nothing is."""
    try:
        unknown = variables_of(compile_template(text)) - set(names)
    except ConfigError as error:
        return [f"{place}: {error.cause}"]
    there = f"there {'is' if len(names) == 1 else 'are'} {', '.join(sorted(names))}"
    return [f"{place}: unknown {', '.join(sorted(unknown))}; {there}"] if unknown else []


def check_url(url: str, schemes: Collection[str]) -> None:
    """Raise ValueError for an address that is none of `schemes`, has no host, a port that is none, or credentials."""
    if "@" in url:  # first, for what stands before it must be in no message
        raise ValueError("holds credentials; put them into the file that credentials_path names")
    expected = f"should be {' or '.join(f'{scheme}://host:port' for scheme in schemes)}"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  reading it raises
    except ValueError:
        raise ValueError(expected) from None
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(expected)


def conflict(doing: str) -> SinkError:
    """What stands in the store is not what was to be replaced."""
    return SinkError(
        reason="StoreConflict",
        doing=doing,
        cause="another writer changed the key meanwhile",
        remedy="nothing to do, the store is compared anew; if it goes on, find the other writer (operator)",
    )
