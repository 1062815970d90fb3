"""The local stack, as far as no server is needed to show it: ports, notes of processes, messages, pins."""

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from tools.stack import layout, pins
from tools.stack.kafka import Node, new_cluster_id, node_properties, shared_properties
from tools.stack.ports import free_ports
from tools.stack.probes import HOST, KafkaCluster, http_answers, kafka_cluster, port_is_taken
from tools.stack.problem import StackError, ToolMissing
from tools.stack.process import Identity, identify, read_note, write_note
from tools.stack.server import Launch, Port, Server
from tools.stack.steps import run

# Says that it listens, and then does, until it is ended.
_LISTENER = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('up', flush=True)\n"
_LISTENER += "while True: s.accept()[0].close()"


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def server(tmp_path: Path, port: int) -> Iterator[Server]:
    launch = Launch(
        name="listener",
        folder=tmp_path / "listener",
        command=[sys.executable, "-S", "-c", _LISTENER, str(port)],
        ports=(Port(port, "LISTENER_PORT"),),
        is_ready=lambda: port_is_taken(port),
    )
    server = Server(launch, dies_with_us=True)
    yield server
    server.kill()


def test_a_server_is_found_again_by_its_note_alone(server: Server) -> None:
    server.start()

    seen_later = Server(Launch("listener", server.launch.folder, (), (), lambda: True))

    assert seen_later.is_ready()
    assert seen_later.stop()
    assert not server.is_alive()


def test_starting_a_running_server_leaves_it_alone(server: Server) -> None:
    server.start()
    before = server.find()

    server.start()

    assert server.find() == before


def test_a_killed_server_starts_again(server: Server) -> None:
    server.start()

    assert server.kill()
    server.start()

    assert server.is_ready()


def test_stopping_what_does_not_run_does_nothing(server: Server) -> None:
    assert not server.stop()


def test_a_frozen_server_is_stopped_too(server: Server) -> None:
    server.start()
    server.pause()

    assert server.stop()


def test_a_port_of_somebody_else_is_named_with_the_variable_that_moves_it(server: Server, port: int) -> None:
    with socket.create_server((HOST, port)), pytest.raises(StackError) as failure:
        server.start()

    assert f"port {port} of {HOST} is in use by another process" in str(failure.value)
    assert "LISTENER_PORT=<another port>" in failure.value.remedy


def test_a_server_that_ends_at_once_shows_what_it_said(tmp_path: Path, port: int) -> None:
    command = [sys.executable, "-S", "-c", "print('no such setting: colour'); raise SystemExit(2)"]
    launch = Launch("broken", tmp_path / "broken", command, (Port(port),), lambda: False)

    with pytest.raises(StackError, match="ended before it was ready") as failure:
        Server(launch).start()

    assert "| no such setting: colour" in str(failure.value)


def test_a_note_of_a_process_that_has_gone_is_stale(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    alive = identify(child.pid)
    assert alive is not None
    write_note(tmp_path / "note", alive)

    child.communicate(b"\n")

    assert read_note(tmp_path / "note") is None


@pytest.mark.parametrize("change", ["started", "command"])
def test_a_pid_that_another_process_got_is_not_ours(tmp_path: Path, change: str) -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    alive = identify(child.pid)
    assert alive is not None
    noted = Identity(alive.pid, alive.started, alive.command)
    other = {"pid": noted.pid, "started": noted.started, "command": noted.command, change: "something else"}
    (tmp_path / "note").write_text(json.dumps(other), encoding="utf-8")

    found = read_note(tmp_path / "note")
    child.communicate(b"\n")

    assert found is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": null, "started": "", "command": ""}'])
def test_a_damaged_note_is_no_note(tmp_path: Path, text: str) -> None:
    (tmp_path / "note").write_text(text, encoding="utf-8")

    assert read_note(tmp_path / "note") is None


@pytest.mark.parametrize("text", ["0", "65536", "-1", "kafka", "2909²", "29092 "])
def test_what_is_no_port_is_refused_by_its_variable(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("KAFKA_PORT", text)

    with pytest.raises(StackError, match="KAFKA_PORT"):
        layout.port("KAFKA_PORT")


def test_a_port_moves_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PORT", "39092")

    assert layout.port("KAFKA_PORT") == Port(39092, "KAFKA_PORT")


def test_a_stack_that_was_moved_is_looked_for_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NATS_PORT", "34222")
    layout.keep_ports(tmp_path)
    monkeypatch.delenv("NATS_PORT")

    assert {s.launch.name: s.launch.address for s in layout.started(tmp_path)}["nats"] == "127.0.0.1:34222"


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(20)

    assert len(set(ports)) == 20
    assert not any(port_is_taken(port) for port in ports)


def test_a_program_that_is_missing_is_said_with_what_to_install() -> None:
    with pytest.raises(ToolMissing, match="no-such-program is not on this machine") as failure:
        run("building", ["no-such-program"], remedy="install it")

    assert "what to do: install it" in str(failure.value)


def test_a_failing_tool_shows_the_end_of_its_output() -> None:
    script = "print('\\n'.join(f'line {n}' for n in range(100))); raise SystemExit(3)"

    with pytest.raises(StackError, match="ended with code 3") as failure:
        run("building", [sys.executable, "-S", "-c", script], remedy="look")

    assert failure.value.output.splitlines()[-1] == "line 99"
    assert "line 9\n" not in failure.value.output


def test_a_cluster_id_is_what_kafka_takes() -> None:
    ids = {new_cluster_id() for _ in range(100)}

    assert len(ids) == 100
    assert all(len(text) == 22 and not text.startswith("-") for text in ids)


def test_three_nodes_share_all_settings_but_their_own_addresses(tmp_path: Path) -> None:
    nodes = [Node(n, Port(1000 + n), Port(2000 + n)) for n in (1, 2, 3)]

    first, second, third = (node_properties(node, nodes, tmp_path / str(node.id), {}) for node in nodes)

    different = {key for key in first if not first[key] == second[key] == third[key]}
    assert different == {"node.id", "listeners", "advertised.listeners", "log.dirs"}
    assert first["transaction.state.log.replication.factor"] == "3"
    assert first["controller.quorum.voters"] == "1@127.0.0.1:2001,2@127.0.0.1:2002,3@127.0.0.1:2003"


def test_a_setting_of_one_test_wins_over_the_shared_ones(tmp_path: Path) -> None:
    node = Node(1, Port(1), Port(2))

    properties = node_properties(node, [node], tmp_path, {"auto.create.topics.enable": "true"})

    assert shared_properties()["auto.create.topics.enable"] == "false"
    assert properties["auto.create.topics.enable"] == "true"


def test_every_pin_is_found_in_its_file() -> None:
    versions = [pins.kafka_version(), pins.nats_version(), pins.go_version(), *map(pins.go_tool_version, pins.GO_TOOLS)]

    assert all(version.split(".")[0].isdigit() for version in versions), versions


def test_every_go_tool_is_a_tool_line_of_the_module() -> None:
    text = (pins.TOOLS / "go.mod").read_text(encoding="utf-8")

    assert all(f"\t{package}\n" in text for package, _module in pins.GO_TOOLS.values())


def _answer_once(answer: bytes) -> int:
    """Serve one connection with `answer` on a free port."""
    listener = socket.create_server((HOST, 0))

    def serve() -> None:
        with listener:
            connection, _address = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

    Thread(target=serve, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def test_kafka_is_described_by_its_metadata() -> None:
    node = struct.pack(">ih", 7, 1) + b"h" + struct.pack(">ih", 9092, -1)
    body = struct.pack(">iii", 1, 0, 1) + node + struct.pack(">h", 2) + b"id" + struct.pack(">ii", 7, 0)

    assert kafka_cluster(_answer_once(struct.pack(">i", len(body)) + body)) == KafkaCluster("id", (7,))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\0\0\x04\0\0\0\x01",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x0c\0\0\0\x01\0\0\0\0\x7f\xff\xff\xff",
    ],
)
def test_what_is_not_kafka_is_not_taken_for_it(answer: bytes) -> None:
    assert kafka_cluster(_answer_once(answer)) is None


@pytest.mark.parametrize(
    ("answer", "answers"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", False),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False),
        (b"", False),
    ],
)
def test_a_server_that_answers_http_well_is_ready(answer: bytes, answers: bool) -> None:
    assert http_answers(_answer_once(answer), "/v2/") is answers
