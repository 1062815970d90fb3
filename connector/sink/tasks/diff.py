"""`diff`: whole snapshots × what the store holds → puts and deletes. Pure.

Rules. (1) Each file takes the first route whose `match` is found in its path; a file that no route takes is counted
and left out. (2) A key outside `owns` is an error, and so are two files with one key. (3) Nothing is deleted outside
`owns`. (4) A value that is right already is not written. (5) Where every key would go and none would come, the diff
is refused unless `allow_empty` is set. (6) A flow of several artifacts has one desired state, that of all of them:
until each has a whole snapshot, nothing is deleted.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Self

from msgspec import Struct
from pydantic import Field, field_validator, model_validator

from connector.config.task import Duration, Strict, TaskFields
from connector.config.template import Template, compile_template, regex_match
from connector.errors import SinkError
from connector.records.file_record import FileRecord, Snapshot
from connector.sink.parts import Parts
from connector.sink.store import Diff, Entry
from connector.sink.store_parts import template_problems

EVERYTHING = "*"

_VALUES = frozenset({"path", "content", "digest", "artifact", "artifact_digest"})


class RouteFields(Strict):
    """Which files, and under which keys."""

    match: str = Field(
        min_length=1,
        max_length=1000,
        description="Regular expression that is looked for in the path; `^` and `$` anchor it. Linear in time, so "
        "without look-around and back-references.",
    )
    key: str = Field(
        min_length=1,
        description="Template of the key, over `path`, `content`, `digest`, `artifact` and `artifact_digest`.",
    )

    @field_validator("match")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        regex_match("", pattern)
        return pattern


class Fields(TaskFields):
    """Compares a snapshot with the store below, and yields what is to be put and deleted there."""

    owns: tuple[str, ...] = Field(
        min_length=1,
        description="Prefixes of the keys that are this flow's: it may write and delete under them and nowhere else. "
        'The single prefix `"*"` means every key of the store.',
    )
    routes: tuple[RouteFields, ...] = Field(min_length=1, description="First match wins.")
    allow_empty: bool = Field(False, description="Let a snapshot delete every key that the flow owns.")
    check_interval: Duration = Field(
        timedelta(seconds=30),
        gt=timedelta(0),
        description="How often the names of the keys are listed; one that is missing or too many is repaired.",
    )
    reconcile_interval: Duration = Field(
        timedelta(minutes=10),
        gt=timedelta(0),
        description="How often every value is compared with the topic; one that was changed is repaired.",
    )

    @field_validator("owns")
    @classmethod
    def _not_everything_by_accident(cls, owns: tuple[str, ...]) -> tuple[str, ...]:
        if any(not prefix.strip() for prefix in owns):
            raise ValueError('holds an empty prefix, which would own every key; write "*" if that is meant')
        return owns

    @model_validator(mode="after")
    def _everything_stands_alone(self) -> Self:
        if EVERYTHING in self.owns and len(self.owns) > 1:
            raise ValueError('`owns` has "*" beside other prefixes')
        return self


class Desired(Struct, frozen=True):
    """The keys and values that the store should hold under the owned prefixes."""

    values: Mapping[str, bytes]
    unmatched: int


class Differ:
    """The routes and prefixes of one `diff` task."""

    def __init__(self, fields: Fields) -> None:
        self.check_interval = fields.check_interval
        self.reconcile_interval = fields.reconcile_interval
        self.prefixes = _shortest(() if EVERYTHING in fields.owns else fields.owns)
        self._allow_empty = fields.allow_empty
        self._routes = [(route.match, compile_template(route.key)) for route in fields.routes]

    def desired(self, snapshots: Sequence[Snapshot]) -> Desired:
        """What the snapshots ask for. Raises SinkError TemplateFailed, KeyInvalid, DuplicateKey, naming the file."""
        values: dict[str, bytes] = {}
        paths: dict[str, FileRecord] = {}
        unmatched = 0
        for file in (file for snapshot in snapshots for file in snapshot.files):
            template = self._route(file.path)
            if template is None:
                unmatched += 1
                continue
            key = self._key(template, file)
            if key in paths:
                raise _two_files(key, paths[key], file)
            paths[key] = file
            values[key] = file.content or b""
        return Desired(values, unmatched)

    def compare(self, desired: Desired, held: Mapping[str, Entry], *, all_known: bool) -> Diff:
        """The writes that bring `held` (all keys under `prefixes`) to what is desired.

        `all_known` is False while an artifact of the flow has no snapshot yet; then nothing is deleted. Raises
        SinkError WouldDeleteEverything.
        """
        puts = {k: v for k, v in sorted(desired.values.items()) if k not in held or held[k].value != v}
        orphans = tuple(sorted(key for key in held if key not in desired.values and self._owns(key)))
        if orphans and not desired.values and all_known and not self._allow_empty:
            raise _nothing_left(len(orphans), desired.unmatched)
        deletes = orphans if all_known else ()
        return Diff(
            puts,
            deletes,
            replaced={key: held[key] for key in (*puts, *deletes) if key in held},
            unchanged=len(desired.values) - len(puts),
            unmatched=desired.unmatched,
        )

    def is_settled(self, desired: Desired, keys: Iterable[str], *, all_known: bool) -> bool:
        """Whether the store has the names it should have, so that the values need no look now."""
        owned = {key for key in keys if self._owns(key)}
        return owned == desired.values.keys() if all_known else owned >= desired.values.keys()

    def _route(self, path: str) -> Template | None:
        return next((template for pattern, template in self._routes if regex_match(path, pattern)), None)

    def _key(self, template: Template, file: FileRecord) -> str:
        doing = f"making the key of {file.path[:200]!r} of {file.pull.artifact}"
        values = {
            "path": file.path,
            "digest": file.digest,
            "artifact": file.pull.artifact,
            "artifact_digest": file.pull.artifact_digest,
        }
        # Of a file that is not text, a template that reads the content fails as undefined; others may carry any bytes.
        with suppress(UnicodeDecodeError):
            values["content"] = (file.content or b"").decode("utf-8")
        key = template.render(doing, **values)
        if not key or not self._owns(key):
            raise SinkError(
                reason="KeyInvalid",
                doing=doing,
                cause=f"the key {key[:200]!r} is outside of what the flow owns: {', '.join(self.prefixes)}",
                remedy="mend the route's key or add the prefix to 'owns' (operator), or the file (publisher)",
            )
        return key

    def _owns(self, key: str) -> bool:
        return key.startswith(self.prefixes)


def build(fields: Fields, parts: Parts) -> Differ:
    """The comparison of one `diff` task."""
    return Differ(fields)


def check(fields: Fields) -> list[str]:
    """What is wrong with the templates of the routes."""
    return [
        problem
        for number, route in enumerate(fields.routes)
        for problem in template_problems(f"routes[{number}].key", route.key, _VALUES)
    ]


def _shortest(prefixes: Iterable[str]) -> tuple[str, ...]:
    """The prefixes without those that lie below another, so that no key is listed twice; ('',) for everything."""
    kept: list[str] = []
    for prefix in sorted(set(prefixes)):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept) or ("",)


def _two_files(key: str, first: FileRecord, second: FileRecord) -> SinkError:
    return SinkError(
        reason="DuplicateKey",
        doing=f"making the key of {second.path[:200]!r} of {second.pull.artifact}",
        cause=f"{first.path[:200]!r} of {first.pull.artifact} has the same key {key[:200]!r}",
        remedy="give one of the two another name, or take it out of the artifact (publisher), or route it (operator)",
    )


def _nothing_left(keys: int, unmatched: int) -> SinkError:
    return SinkError(
        reason="WouldDeleteEverything",
        doing="comparing the snapshot with the store",
        cause=f"no file of it has a key ({unmatched} match no route), so all {keys} keys that the flow owns would go",
        remedy="look at the artifact and the routes; set 'allow_empty' of the diff if that is meant (operator)",
    )
