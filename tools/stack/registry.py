"""The distribution registry v3: anonymous or with an htpasswd file, blobs in a folder, deletion allowed."""

import json
from pathlib import Path

from tools.stack.probes import HOST, http_answers
from tools.stack.server import Launch, Port


def registry(binary: Path, folder: Path, port: Port, *, htpasswd: str = "") -> Launch:
    """How to launch it with its data in `folder`; `htpasswd` is the text of such a file, with bcrypt hashes."""
    config, users = folder / "config.json", folder / "htpasswd"

    def prepare() -> None:
        (folder / "data").mkdir(exist_ok=True)
        users.write_text(htpasswd, encoding="utf-8")
        # JSON, which every YAML reader takes.
        config.write_text(json.dumps(_settings(folder / "data", port, users if htpasswd else None), indent=1))

    return Launch(
        name="registry",
        folder=folder,
        command=[str(binary), "serve", str(config)],
        ports=(port,),
        is_ready=lambda: http_answers(port.number, "/v2/"),
        prepare=prepare,
        environment={"OTEL_TRACES_EXPORTER": "none"},  # else it looks for a collector every few seconds
    )


def _settings(data: Path, port: Port, users: Path | None) -> dict[str, object]:
    auth = {"auth": {"htpasswd": {"realm": "oci-sync", "path": str(users)}}} if users else {}
    return {
        "version": "0.1",
        "log": {"level": "info", "formatter": "text"},
        "storage": {"filesystem": {"rootdirectory": str(data)}, "delete": {"enabled": True}},
        "http": {"addr": f"{HOST}:{port.number}", "secret": "of the local stack"},
        **auth,
    }
