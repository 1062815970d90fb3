"""The status document from Kafka alone, in the shape of a worker's own: for when no worker's listener answers.

It knows what readers have, who lives and carries what, what is paused, and how far sinks have read. How the last tick
ended only the worker knows, and the message says so.
"""

from datetime import UTC, datetime
from typing import Any

from connector.kafka.groups import GroupLag, group_lag
from connector.wiring.asking import Known, KnownSource, known
from connector.wiring.parts import Parts
from connector.wiring.sink_half import sink_group


async def status_from_topics(parts: Parts) -> dict[str, Any]:
    """The document; `ready` where every source has a commit and a live worker. Raises OutputError."""
    now = await known(parts)
    at = datetime.now(UTC)
    lags = {
        flow: lag
        for flow in sorted({source.flow for source in now.sources})
        if (lag := await group_lag(parts.topics, sink_group(parts.worker, flow)))
    }
    sources = [_source(source, now, at) for source in now.sources]
    sinks = [_sink(flow, lag, _newest_digest(flow, now), at) for flow, lag in lags.items()]
    entries = sources + sinks
    problems = [
        f"{one['flow']}/{one.get('source') or one.get('sink')}: {one['conditions'][0]['reason']}: "
        f"{one['conditions'][0]['message']}"
        for one in entries
        if one["conditions"][0]["status"] != "True"
    ]
    return {
        "at": _iso(at),
        "ready": bool(sources) and not problems,
        "problems": problems,
        "worker": {
            "instance": "none answered; this is what the topics tell",
            "live": [{"name": worker.name, "flows": sorted(worker.sources)} for worker in now.workers],
            "members": list(now.members),
        },
        "flows": [],
        "partitions": [],
        "sources": sources,
        "sinks": sinks,
    }


def _source(source: KnownSource, now: Known, at: datetime) -> dict[str, Any]:
    offset = source.offset
    committed = None if offset is None else datetime.fromtimestamp(offset.committed_at / 1000, UTC)
    serving = "readers have nothing yet" if committed is None else f"readers have the snapshot of {_iso(committed)}"
    carriers = [
        worker.name for worker in now.workers if source.artifact in worker.sources.get(source.flow, {}).values()
    ]
    if not carriers:
        status, reason = "False", "NoWorker"
        message = f"no live worker carries it; {serving}"
    elif source.paused:
        status, reason, message = "Unknown", "Paused", f"paused until oci-sync resume; {serving}"
    elif offset is None:
        status, reason = "Unknown", "Waiting"
        message = f"{', '.join(carriers)} carries it and has not committed a pull; ask it: oci-sync status --url"
    else:
        status, reason = "True", "Committed"
        message = f"{serving}; how the last tick ended only the worker knows: oci-sync status --url"
    return {
        "flow": source.flow,
        "source": source.task or source.artifact,
        "artifact": source.artifact,
        "conditions": [_condition(status, reason, message, at)],
        "revision": offset.digest if offset else "",
        "digest": offset.digest if offset else None,
        "files": offset.files if offset else None,
        "pull_id": offset.pull_id if offset else None,
        "committed_at": _iso(committed) if committed else None,
        "paused": source.paused,
        "last_change": _iso(committed) if committed else None,
        "next_tick": None,
        "problem": None,
    }


def _newest_digest(flow: str, now: Known) -> str | None:
    """The snapshot that was committed last among those of the flow's sources."""
    offsets = [source.offset for source in now.sources if source.flow == flow and source.offset is not None]
    return max(offsets, key=lambda offset: offset.committed_at).digest if offsets else None


def _sink(flow: str, lag: GroupLag, newest: str | None, at: datetime) -> dict[str, Any]:
    """Sinks commit what they applied: without lag the stores have the newest snapshot; with it, nobody knows which."""
    digest: str | None = None
    if not lag.topics:
        has = "nothing was applied yet"
    elif lag.records:
        has = f"{lag.records} records wait to be applied"
    else:
        digest, has = newest, f"everything in the topic was applied, {newest} at last"
    if lag.members == 0:
        condition = _condition("False", "NoWorker", f"no live worker runs it; {has}", at)
    elif digest is None:
        condition = _condition("Unknown", "Lagging", has, at)
    else:
        condition = _condition("True", "CaughtUp", has, at)
    return {
        "flow": flow,
        "sink": "all",
        "topic": ",".join(lag.topics),
        "conditions": [condition],
        "digest": digest,
        "lag_records": lag.records,
        "problem": None,
    }


def _condition(status: str, reason: str, message: str, at: datetime) -> dict[str, str]:
    return {"type": "Ready", "status": status, "reason": reason, "message": message, "since": _iso(at)}


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
