"""Which half of the flows a verb is about: `--only`."""

from enum import StrEnum

from connector.config.flow import with_sinks
from connector.config.flow_file import LoadedFlows


class Half(StrEnum):
    """One half of a flow."""

    SOURCE = "source"
    SINK = "sink"


def without_misshapen(loaded: LoadedFlows) -> LoadedFlows:
    """The flows whose sink half can work, as `wiring.sink_half` has it, whose import only those pay that have one."""
    if not with_sinks(loaded.flows):
        return loaded
    from connector.wiring import sink_half

    return sink_half.without_misshapen(loaded)
