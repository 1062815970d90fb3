"""A schema registry over HTTP on loopback, in a thread of its own, that keeps subjects, can refuse and counts requests.

    with FakeSchemaRegistry() as registry:
        registry.fail_next(503, {"Retry-After": "7"})      # the next request, whatever it asks
        ...
        assert registry.requests[0].path == "/subjects/t-value/versions"

It speaks as much of Confluent's REST API as our client asks. A schema that holds the text `incompatible` (by default
that word) is refused by every subject that has a version already.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote


@dataclass(frozen=True)
class Asked:
    """One request as it came; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class FakeSchemaRegistry:
    """Subjects with their schemas, by id from 1."""

    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self.schemas: list[str] = []
        self.subjects: dict[str, list[int]] = {}
        self.levels: dict[str, str] = {}
        self.incompatible = "incompatible"
        self._faults: list[tuple[int, Mapping[str, str], bytes]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake._serve(self)

            do_POST = do_PUT = do_GET

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fail_next(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"{}") -> None:
        """Answer the next request with this."""
        self._faults.append((status, headers or {}, body))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.command, request.path, headers, json.loads(body) if body else None)
        self.requests.append(asked)
        if self._faults:
            status, extra, content = self._faults.pop(0)
        else:
            status, document = self._answer(asked)
            extra, content = {}, json.dumps(document).encode()
        request.send_response(status)
        for name, value in extra.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _answer(self, asked: Asked) -> tuple[int, Any]:
        match asked.method, asked.path.partition("?")[0].strip("/").split("/"):
            case "POST", ["subjects", subject, "versions"]:
                return self._register(unquote(subject), asked.body["schema"])
            case "POST", ["subjects", subject]:
                return self._found(unquote(subject), asked.body["schema"])
            case "GET", ["subjects", subject, "versions", "latest"] if unquote(subject) in self.subjects:
                return self._found(unquote(subject), self.schemas[self.subjects[unquote(subject)][-1] - 1])
            case "GET", ["schemas", "ids", number] if 0 < int(number) <= len(self.schemas):
                return 200, {"schema": self.schemas[int(number) - 1]}
            case "POST", ["compatibility", "subjects", subject, "versions", "latest"] if subject in self.subjects:
                return 200, {"is_compatible": self.incompatible not in asked.body["schema"]}
            case "PUT", ["config", subject]:
                self.levels[subject] = asked.body["compatibility"]
                return 200, asked.body
            case "GET", ["config", *subject]:
                return 200, {"compatibilityLevel": self.levels.get("".join(subject), "BACKWARD")}
        return 404, {"error_code": 40401, "message": "Subject not found."}

    def _register(self, subject: str, schema: str) -> tuple[int, Any]:
        if self.incompatible in schema and subject in self.subjects:
            return 409, {"error_code": 409, "message": "Schema being registered is\nincompatible"}
        if schema not in self.schemas:
            self.schemas.append(schema)
        number = self.schemas.index(schema) + 1
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return 200, {"id": number}

    def _found(self, subject: str, schema: str) -> tuple[int, Any]:
        number = self.schemas.index(schema) + 1 if schema in self.schemas else 0
        versions = self.subjects.get(subject, [])
        if number not in versions:
            return 404, {"error_code": 40403, "message": "Schema not found"}
        version = versions.index(number) + 1
        return 200, {"subject": subject, "version": version, "id": number, "schema": schema}
