"""The ACLs that a group of workers needs, and no more: what to grant before `authorizer.class.name` is set. Pure.

Names are those of `kafka-acls.sh`. That each one is needed, and all are enough, is tested on a broker with an
authorizer (tests/system/test_acls.py). Describe is not among them: Read and Write imply it. Without DescribeConfigs
all goes on, but the settings of a topic are not checked and a file too large for it is found by the broker.
"""

from collections.abc import Collection, Iterable
from shlex import quote

from msgspec import Struct


class Acl(Struct, frozen=True):
    """Operations on one resource; `is_prefixed` where they are for every name that begins so."""

    resource: str
    name: str
    operations: tuple[str, ...]
    is_prefixed: bool = False

    def command(self, bootstrap: str, principal: str) -> str:
        """The line that grants it, for a POSIX shell."""
        operations = " ".join(f"--operation {operation}" for operation in self.operations)
        pattern = " --resource-pattern-type prefixed" if self.is_prefixed else ""
        return (
            f"kafka-acls.sh --bootstrap-server {quote(bootstrap)} --add --allow-principal {quote(principal)} "
            f"{operations} --{self.resource} {quote(self.name)}{pattern}"
        )


def acls_of_source(
    group: str, offsets_topic: str, topics: Iterable[str], *, is_fenced: bool, creates: bool
) -> list[Acl]:
    """What the source half needs. `is_fenced`: delivery is exactly_once; `creates`: topics.manage is create."""
    # Read on the offsets topic restores it; on a flow's topic it gives back the paths of a lost offset.
    own = [_topic(name, ("Read", "Write"), creates=creates) for name in (offsets_topic, *topics)]
    fence = [Acl("transactional-id", f"{group}-", ("Write",), is_prefixed=True)] if is_fenced else []
    return [Acl("group", group, ("Read",)), *fence, *own]


def acls_of_sink(group: str, topics: Collection[str]) -> list[Acl]:
    """What the sink half of one flow needs to follow its topics."""
    return [Acl("group", group, ("Read",)), *[Acl("topic", name, ("Read",)) for name in topics]]


def acls_of_store(transactional_id: str, topic: str, *, creates: bool) -> list[Acl]:
    """What a store that is a topic needs."""
    return [
        Acl("transactional-id", transactional_id, ("Write",)),
        _topic(topic, ("Read", "Write"), creates=creates),
    ]


def merged(acls: Iterable[Acl]) -> list[Acl]:
    """One entry a resource, in the order of their first mention, with the operations of all."""
    found: dict[tuple[str, str, bool], set[str]] = {}
    for acl in acls:
        found.setdefault((acl.resource, acl.name, acl.is_prefixed), set()).update(acl.operations)
    return [
        Acl(resource, name, tuple(sorted(operations)), is_prefixed)
        for (resource, name, is_prefixed), operations in found.items()
    ]


def _topic(name: str, operations: tuple[str, ...], *, creates: bool) -> Acl:
    return Acl("topic", name, (*operations, "DescribeConfigs", *(("Create",) if creates else ())))
