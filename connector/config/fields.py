"""A part of a document → a pydantic model, or every problem in it with its place and the name that was meant."""

import json
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin
from urllib.parse import unquote, urlsplit

from msgspec import Struct, field
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from connector.config.problem import Problem, did_you_mean, nearest, shown
from connector.config.task import format_duration
from connector.config.variables import Variables, has_variable, malformed_variable
from connector.config.yaml_lines import Document, Location
from connector.errors import OciSyncError
from connector.telemetry import SECRETS

M = TypeVar("M", bound=BaseModel)

_SECRET: Final = re.compile(r"pass|secret|token|credential|jaas|authorization|\bkey\b|\.pem$|\.key$", re.IGNORECASE)
# Properties of librdkafka that hold a secret themselves; others that smell of one are names of files.
_SECRET_PROPERTY: Final = re.compile(r"(?:password|passphrase|secret|key\.pem|jaas\.config)\Z", re.IGNORECASE)
_ADDRESSES: Final = ("url", "proxy")  # fields that hold an address, whatever is written there
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Source(Struct, frozen=True):
    """One file on its way to models: the document, and the environment its text may use.

    `elsewhere` maps a field's name to the place it belongs to, for names that are known but not where they stand.
    """

    document: Document
    variables: Variables
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def expand(self, location: Location = ()) -> Any:
        """Plain values from a location on, variables expanded."""
        return self.document.plain(location, self.variables.expand)

    def variable_problems(self, location: Location = ()) -> list[Problem]:
        """Variables that are undefined or misspelt, from a location on."""
        texts = _texts(self.document, location)
        return [problem for where, text in texts for problem in self._in_text(where, text)]

    def problem(self, location: Location, reason: str, message: str, *, at_key: bool = False) -> Problem:
        """A problem at a place of this file, with the values of variables blotted out."""
        return self.document.problem(location, reason, self.variables.redact(message), at_key=at_key)

    def _in_text(self, location: Location, text: str) -> list[Problem]:
        found = [
            self.document.problem(
                location,
                "UnknownVariable",
                f"environment variable {name} is not set" + _suggest_variable(name, self.variables.names()),
            )
            for name in self.variables.undefined(text)
        ]
        if (piece := malformed_variable(text)) is not None:
            message = f"{shown(piece)} is no variable: write {{{{env.NAME}}}} and nothing else within the braces"
            found.append(self.document.problem(location, "BadValue", message))
        return found


def read_fields(model: type[M], source: Source, location: Location, values: object = ...) -> M | list[Problem]:
    """The model at a location, or everything that is wrong with it. `values` stands in for what the file says.

    The secrets that stand there are registered, so that nothing shows them from now on.
    """
    given = source.expand(location) if values is ... else values
    if given is None:
        given = {}
    SECRETS.add(*_secrets_in(given))
    try:
        return model.model_validate(given, context={"directory": Path(source.document.file).parent})
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        return [_problem(model, source, location, detail) for detail in details]
    except OciSyncError as error:  # a validator that parses a term of ours
        return [source.problem(location, "BadValue", f"{error.cause} ({error.remedy})", at_key=True)]


def _problem(model: type[BaseModel], source: Source, location: Location, detail: ErrorDetails) -> Problem:
    inner = detail["loc"]
    where = (*location, *inner)
    match detail["type"]:
        case "extra_forbidden":
            name = str(inner[-1])
            return source.problem(where, "UnknownField", _unknown(model, source, inner, name), at_key=True)
        case "missing":
            name = str(inner[-1])
            message = f"{_label(inner[:-1]) or _last(location)} needs the field {name!r}".lstrip()
            return source.problem(where[:-1], "MissingField", message, at_key=True)
    label = _label(inner)
    got = "" if _SECRET.search(label) else _got(source.document, where, detail["type"])
    return source.problem(where, "BadValue", f"{label or _last(location)} {_words(detail)}{got}".lstrip())


_SUBJECT: Final = re.compile(r"^(?:Value error, )?(?:Input |String |List |Tuple |Dictionary |Value )?")


def _words(detail: ErrorDetails) -> str:
    """What pydantic says, as the end of a sentence that begins with the field's name."""
    context = detail.get("ctx", {})
    match detail["type"]:
        case "string_pattern_mismatch" if "A-Za-z0-9._-" in context["pattern"]:
            return "should consist of letters, digits, '.', '_' and '-'"
        case "greater_than" if isinstance(context["gt"], timedelta):
            return f"should be longer than {format_duration(context['gt'])}"
        case "greater_than_equal" if isinstance(context["ge"], timedelta):
            return f"should be at least {format_duration(context['ge'])}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "should be a mapping"
        case "tuple_type" | "list_type":
            return "should be a list"
    return _SUBJECT.sub("", detail["msg"])


def _unknown(model: type[BaseModel], source: Source, inner: Location, name: str) -> str:
    known = field_names(model_at(model, inner[:-1]) or model)
    message = f"unknown field {shown(name)}"
    if nearest(name, known) is None and name in source.elsewhere:
        return f"{message}: `{name}` belongs to {source.elsewhere[name]}"
    return message + did_you_mean(name, known, "known here:")


def field_names(model: type[BaseModel]) -> list[str]:
    """The names a user may write, aliases first."""
    return [info.alias or name for name, info in model.model_fields.items()]


def nested_models(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The fields of a model that hold a model, or a list or mapping of one."""
    found = {name: _model_in(info.annotation) for name, info in model.model_fields.items()}
    return {name: inner for name, inner in found.items() if inner is not None}


def model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """The model that a location within a model leads to."""
    current: type[BaseModel] | None = model
    for part in location:
        if current is not None and isinstance(part, str) and part in current.model_fields:
            current = _model_in(current.model_fields[part].annotation)
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    origin = get_origin(annotation)
    if origin is Annotated:
        return _model_in(get_args(annotation)[0])
    if origin in (Union, types.UnionType, list, tuple, dict, Mapping) or origin is not None:
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None


def _texts(document: Document, location: Location) -> Iterator[tuple[Location, str]]:
    value = document.node(location).value
    if isinstance(value, str):
        yield location, value
    parts: Iterable[int | str] = (
        value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    )
    for part in parts:
        yield from _texts(document, (*location, part))


def _got(document: Document, where: Location, kind: str) -> str:
    """What the file says there, variables not expanded and users in addresses left out."""
    value = document.plain(where)
    if value is None or (kind == "value_error" and isinstance(value, dict | list)):
        return ""
    if isinstance(value, dict | list):
        return f"; here is {'a mapping' if isinstance(value, dict) else 'a list'}"
    if isinstance(value, str) and (_last(where) in _ADDRESSES or "://" in value or "@" in value.partition("/")[0]):
        value = without_user(value)
    text = json.dumps(value, ensure_ascii=False)
    return f"; here is {text if len(text) <= 60 else text[:57] + '...'}"


def without_user(address: str) -> str:
    """The address as it may be shown. A password may hold '@' and '/', so everything up to the last '@' goes."""
    user, at, host = address.rpartition("@")
    if not at:
        return address
    scheme = _SCHEME.match(user)
    return f"{scheme[0] if scheme else ''}***@{host}"


def passwords_in(address: str) -> list[str]:
    """The password of an address, as it is written and as it is meant; [] where it has none."""
    try:
        password = urlsplit(address).password
    except ValueError:
        return []
    return [password, unquote(password)] if password else []


def _secrets_in(value: object, name: str = "") -> Iterator[str]:
    """What stands under the name of a secret, and the passwords of addresses."""
    match value:
        case dict():
            for key, inner in value.items():
                yield from _secrets_in(inner, str(key))
        case list():
            for inner in value:
                yield from _secrets_in(inner, name)
        case str() | int() if _SECRET_PROPERTY.search(name) and not has_variable(value):
            yield str(value)
        case str():
            yield from passwords_in(value)


def _label(inner: Location) -> str:
    # pydantic puts names of validators and of a union's members among the parts; those hold brackets.
    return ".".join(part for part in inner if isinstance(part, str) and re.fullmatch(r"[\w.:\-]+", part))


def _last(location: Location) -> str:
    return next((part for part in reversed(location) if isinstance(part, str)), "")


def _suggest_variable(name: str, known: frozenset[str]) -> str:
    found = nearest(name, known)
    return f": did you mean {found}?" if found is not None and found.lower()[:2] == name.lower()[:2] else ""
