"""What a chain asks of its tasks and its store."""

from collections.abc import Sequence

import pytest

from connector.errors import SinkError
from connector.records.file_record import Snapshot
from connector.sink.chain import DiffChain
from connector.sink.tasks import diff
from tests.sink.memory_store import MemoryStore, pull


class CountingDiffer(diff.Differ):
    """Counts how often the keys of all files were worked out."""

    count = 0

    def desired(self, snapshots: Sequence[Snapshot]) -> diff.Desired:
        self.count += 1
        return super().desired(snapshots)


async def test_the_keys_of_a_pull_are_worked_out_once_however_often_its_store_is_down() -> None:
    fields = diff.Fields.model_validate(
        {"name": "d", "owns": ["k."], "routes": [{"match": ".", "key": "k.{{ path }}"}]}
    )
    store = MemoryStore(is_down=True)
    differ = CountingDiffer(fields)
    chain = DiffChain("save", differ, store)
    files = pull("1", {"a": "1"})
    snapshot = Snapshot(files[0].pull, tuple(files))
    for _ in range(3):
        with pytest.raises(SinkError):
            await chain.apply([snapshot], all_known=True)
    store.is_down = False

    await chain.apply([snapshot], all_known=True)

    assert store.plain() == {"k.a": b"1"}
    assert differ.count == 1
