"""Free ports of this machine."""

import socket
from contextlib import ExitStack

from tools.stack.probes import HOST


def free_ports(count: int) -> tuple[int, ...]:
    """So many different ports that nobody uses now; taken at once, so that no two are the same."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return tuple(one.getsockname()[1] for one in sockets)
