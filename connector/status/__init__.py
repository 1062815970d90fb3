"""What is known of every source, sink, partition and flow: the one state that metrics, REST and page show. Pure.

`Status` receives outcomes and `view(at)` gives them back judged; `SourceId`, `SinkId`, `Delivered`, `PartitionState`
are what callers hand in; `View` and `as_json` are what faces show.

Rules. (1) It knows no registry, no Kafka, no clock: each call brings its time (aware datetimes), in the order in which
things happened. (2) `Ready` is True only if the last attempt succeeded, the partition is ours and running, and ticks
still end: a source without a finished tick for three intervals is not ready, though nothing failed. (3) A message
names what was tried, what came back, what to do, and what readers still have. (4) One event loop calls it; only
`poll_thread_beat` may come from another thread.
"""

from connector.status.facts import Delivered, PartitionState, Problem, SinkId, SourceId, Truth
from connector.status.state import Status
from connector.status.view import View, as_json

__all__ = ["Delivered", "PartitionState", "Problem", "SinkId", "SourceId", "Status", "Truth", "View", "as_json"]
