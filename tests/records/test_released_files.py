"""Flow and worker files that a release took are taken today: the JSON Schemas only ever allow more."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCHEMAS = Path(__file__).parents[2] / "schemas"
RELEASED = sorted((SCHEMAS / "released").glob("*/*.schema.json"))
# What may only shrink, and what may only grow.
_LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


class Comparison:
    """Two versions of one schema; `losses` names the places where the new one takes less."""

    def __init__(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._old, self._new = old, new
        self._seen: set[tuple[str, str]] = set()

    def losses(self) -> list[str]:
        return list(self._compare(self._old, self._new, "$"))

    def _compare(self, old: dict[str, Any], new: dict[str, Any], place: str) -> Iterator[str]:
        pair = (old.get("$ref", ""), new.get("$ref", ""))
        if all(pair):
            if pair in self._seen:
                return
            self._seen.add(pair)
        old, new = self._resolved(old, self._old), self._resolved(new, self._new)
        yield from self._branches(old, new, place)
        for name, inner in old.get("properties", {}).items():
            if name not in new.get("properties", {}):
                yield f"{place}.{name} is gone"
            else:
                yield from self._compare(inner, new["properties"][name], f"{place}.{name}")
        yield from (
            f"{place}.{name} is required" for name in set(new.get("required", [])) - set(old.get("required", []))
        )
        for name in ("items", "additionalProperties"):
            if isinstance(old.get(name), dict) and isinstance(new.get(name), dict):
                yield from self._compare(old[name], new[name], f"{place}.{name}")
        yield from (f"{place} no longer takes {value!r}" for value in _choices(old) if not _takes(new, value))
        yield from (f"{place} {name} was raised" for name in _LOWER_BOUNDS if new.get(name, 0) > old.get(name, 0))
        for name in _UPPER_BOUNDS:
            if new.get(name, float("inf")) < old.get(name, float("inf")):
                yield f"{place} {name} was lowered"

    def _branches(self, old: dict[str, Any], new: dict[str, Any], place: str) -> Iterator[str]:
        """Each alternative of old must be one of new."""
        if "anyOf" not in old and "anyOf" not in new:
            return
        ours = new.get("anyOf", [new])
        for branch in old.get("anyOf", [{**old, "properties": {}}]):
            found = [list(Comparison(self._old, self._new)._compare_branch(branch, one, place)) for one in ours]
            if all(found):
                yield from min(found, key=len)

    def _compare_branch(self, old: dict[str, Any], new: dict[str, Any], place: str) -> Iterator[str]:
        of, now = self._resolved(old, self._old), self._resolved(new, self._new)
        if of.get("type", now.get("type")) != now.get("type") and "type" in now:
            yield f"{place} no longer takes {of.get('type')}"
        yield from self._compare(old, new, place)

    @staticmethod
    def _resolved(node: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            node = whole["$defs"][node["$ref"].rpartition("/")[2]]
        return node


def _choices(node: dict[str, Any]) -> list[Any]:
    return [*node.get("enum", []), *([node["const"]] if "const" in node else [])]


def _takes(node: dict[str, Any], value: Any) -> bool:
    allowed = _choices(node)
    if "anyOf" in node:
        return any(_takes(branch, value) for branch in node["anyOf"])
    return not allowed or value in allowed


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_a_release_took_is_taken_today(released: Path) -> None:
    today = SCHEMAS / released.name

    losses = Comparison(json.loads(released.read_text()), json.loads(today.read_text())).losses()

    assert not losses, f"not released yet? then copy {today.name} there anew; else old files stop to work"


OLD = {
    "properties": {"a": {"enum": ["x", "y"]}, "b": {"$ref": "#/$defs/B"}, "c": {"anyOf": [{"type": "string"}]}},
    "$defs": {"B": {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}}},
}


@pytest.mark.parametrize(
    ("change", "loss"),
    [
        (lambda new: new["properties"].pop("a"), "$.a is gone"),
        (lambda new: new["properties"]["a"]["enum"].remove("y"), "$.a no longer takes 'y'"),
        (lambda new: new.update(required=["b"]), "$.b is required"),
        (lambda new: new["$defs"]["B"]["properties"]["n"].update(maximum=5), "$.b.n maximum was lowered"),
        (lambda new: new["$defs"]["B"]["properties"].pop("n"), "$.b.n is gone"),
        (lambda new: new["properties"]["c"].update(anyOf=[{"type": "null"}]), "$.c no longer takes string"),
    ],
)
def test_a_schema_that_takes_less_would_be_seen(change: Any, loss: str) -> None:
    new = json.loads(json.dumps(OLD))

    change(new)

    assert Comparison(OLD, new).losses() == [loss]


def test_a_schema_that_takes_more_is_fine() -> None:
    new = json.loads(json.dumps(OLD))
    new["properties"]["d"] = {"type": "string"}
    new["properties"]["a"]["enum"].append("z")
    new["properties"]["c"]["anyOf"].append({"type": "null"})

    assert Comparison(OLD, new).losses() == []
