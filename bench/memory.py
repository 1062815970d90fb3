"""How far hostile artifacts drive the memory of a pull: those of `tests/memory`, to librdkafka's own mock broker."""

from collections.abc import Iterator

from bench.ground import Ground
from bench.result import Result
from tests.memory import hostile
from tests.memory.pulls import mock_broker, pull

_ALL_AT_ONCE = "many_files_and_many_bytes"


def hostile_pulls(ground: Ground, _runs: int) -> Iterator[Result]:
    """The worst of all artifacts, and the one that is several of them at once."""
    added: dict[str, float] = {}
    with mock_broker() as broker:
        for name in (*hostile.LAYERS, *hostile.MANIFESTS):
            folder = ground.new_folder("hostile")
            added[name] = max(one.grown_mb for one in pull(folder, broker, name, {"binary": "base64"}))
            ground.forget(folder)
    together = added.pop(_ALL_AT_ONCE)
    ranking = sorted(added.items(), key=lambda pair: -pair[1])
    detail = ", ".join(f"{name.replace('_', ' ')} {value:.0f}" for name, value in ranking[:5])
    yield Result("memory that a pull adds, worst of the hostile artifacts", ranking[0][1], "MB", 64, 48, detail)
    yield Result("the same, paths, records and blobs all at once", together, "MB", 164, 64)
