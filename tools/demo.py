"""`make demo`: two releases pushed to a registry, and what readers of Kafka see of them, on the local stack.

Run it by `make demo`, which starts the stack first. It uses names of its own and begins by forgetting its last run.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nats
from confluent_kafka.admin import AdminClient
from nats.js.errors import NotFoundError
from nats.js.kv import KeyValue

from tools.stack.cache import go_tools
from tools.stack.layout import FOLDER, port
from tools.stack.pins import ROOT

BOOTSTRAP = f"127.0.0.1:{port('KAFKA_PORT').number}"
REGISTRY = f"127.0.0.1:{port('REGISTRY_PORT').number}"
NATS = f"nats://127.0.0.1:{port('NATS_PORT').number}"
ARTIFACT = f"{REGISTRY}/demo/rules:prod"
EXAMPLE = ROOT / "examples" / "demo"
HOME = FOLDER / "demo"
WORKER_FILE = HOME / "worker.yaml"
WORKER_LOG = HOME / "worker.log"
OFFSETS = "demo-offsets"
BUCKET = "demo"
TOPIC = "oci.rules"
ENVIRONMENT = {**os.environ, "REGISTRY": REGISTRY, "NATS_URL": NATS, "ORAS_CACHE": str(HOME / "oras")}
COLOR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
UNCHANGED = "OCI manifest digest unchanged"


def title(number: int, text: str) -> None:
    """A step of the demo."""
    line = f"── {number}. {text} "
    line += "─" * max(0, 100 - len(line))
    print(f"\n\033[1m{line}\033[0m" if COLOR else f"\n{line}", flush=True)


def say(text: str) -> None:
    """A paragraph to the reader."""
    print(textwrap.fill(" ".join(text.split()), 100), flush=True)


def shell(*command: str, shown: str | None = None, cwd: Path = ROOT, only: tuple[str, ...] = ()) -> str:
    """Show a command as a person would type it, run it, show what it says; `only` keeps lines that begin so."""
    print(f"\n$ {shown or ' '.join(command)}", flush=True)
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, text=True, capture_output=True, check=False, timeout=120)
    output = (done.stdout + done.stderr).rstrip()
    if only and not done.returncode:
        output = "\n".join(line for line in output.splitlines() if line.startswith(only))
    if output:
        print(textwrap.indent(output, "  "), flush=True)
    if done.returncode:
        raise SystemExit(f"the command above ended with exit code {done.returncode}; the stack is still up")
    return output


def oci_sync(*arguments: str) -> str:
    """Run the product, as `oci-sync …`."""
    shown = f"oci-sync {' '.join(arguments)}".replace(str(ROOT) + "/", "")
    return shell(sys.executable, "-m", "connector", *arguments, shown=shown)


def push(release: str) -> None:
    """Push one release by oras, under the tag the flow follows."""
    folder = EXAMPLE / release
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    oras = go_tools(("oras",))["oras"]
    shell(
        str(oras), "push", "--plain-http", "--no-tty", ARTIFACT, *files,
        shown=f"cd examples/demo/{release}; oras push {ARTIFACT} {' '.join(files)}", cwd=folder,
        only=("Pushed", "Digest"),
    )  # fmt: skip


def forget_last_run() -> None:
    """Delete the demo's own topics, so that each run tells the same story."""
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    mine = [name for name in (OFFSETS, TOPIC) if name in admin.list_topics(timeout=10).topics]
    for future in admin.delete_topics(mine).values() if mine else ():
        future.result(10)
    deadline = time.monotonic() + 10
    while mine and time.monotonic() < deadline and set(mine) & set(admin.list_topics(timeout=10).topics):
        time.sleep(0.1)
    asyncio.run(forget_bucket())
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    WORKER_FILE.write_text(
        textwrap.dedent(f"""\
            kafka: {{bootstrap.servers: "{BOOTSTRAP}"}}
            group: demo
            offsets: {{topic: {OFFSETS}, partitions: 4}}
            spool: {{directory: "{HOME / "spool"}"}}
            """)
    )


async def forget_bucket() -> None:
    """Delete the demo's bucket."""
    client = await nats.connect(NATS)
    try:
        await client.jetstream().delete_key_value(BUCKET)
    except NotFoundError:
        pass
    finally:
        await client.close()


async def show_store() -> None:
    """What NATS KV holds, a key a paragraph."""
    print(f"\n  NATS KV, bucket {BUCKET}:")
    client = await nats.connect(NATS)
    bucket = await client.jetstream().key_value(BUCKET)
    for key in sorted(await bucket.keys()):
        value = (await bucket.get(key)).value or b""
        print(f"  {key:<14} {' · '.join(value.decode().split(chr(10))).rstrip(' ·')}")
    await client.close()


async def tamper() -> None:
    """Change one key by hand and delete another."""
    client = await nats.connect(NATS)
    bucket: KeyValue = await client.jetstream().key_value(BUCKET)
    await bucket.put("rules.eu", b"region: eu\nlimit_per_day: 999999\n")
    await bucket.delete("rules.us")
    await client.close()


class Worker:
    """The worker in the background; what it logged since the last look."""

    def __init__(self) -> None:
        self._seen = 0
        self._stream = WORKER_LOG.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "connector", "run", "-c", str(WORKER_FILE), str(EXAMPLE / "flow.yaml")],
            cwd=ROOT, env=ENVIRONMENT, stdout=self._stream, stderr=self._stream,
        )  # fmt: skip

    def wait_for(self, *texts: str, seconds: float = 60) -> None:
        """Until new log lines hold all of the texts; shows the new lines up to the last of them."""
        deadline = time.monotonic() + seconds
        while True:
            new = WORKER_LOG.read_text()[self._seen :]
            lines = [line for line in new.splitlines(keepends=True) if line.endswith("\n")]
            found = [next((n for n, line in enumerate(lines) if text in line), None) for text in texts]
            if None not in found:
                told = "".join(lines[: max(number for number in found if number is not None) + 1])
                self._seen += len(told)
                print(textwrap.indent(told.rstrip(), "  worker │ "), flush=True)
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                print(new)
                raise SystemExit(f"the worker did not come to {texts}; its log is {WORKER_LOG}")
            time.sleep(0.05)

    def skip(self) -> None:
        """Pass over what it logged until now."""
        self._seen = len(WORKER_LOG.read_text())

    def end(self) -> None:
        """SIGTERM, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(90)
        self._stream.close()


def main() -> None:
    """The demo from start to end; about half a minute."""
    forget_last_run()
    print()
    say("""OCI Sync for Kafka: push an artifact to an OCI registry, and its files arrive on Kafka whole, once, in
        order. What follows runs on this machine: a real Kafka, a real registry, the real worker.""")
    title(1, "A first release is pushed: four files")
    push("release-1")
    title(2, "A flow says what to follow; validate checks it against registry and Kafka")
    print(textwrap.indent((EXAMPLE / "flow.yaml").read_text().rstrip(), "  "))
    oci_sync("validate", "-c", str(WORKER_FILE), "examples/demo/flow.yaml")
    title(3, "The worker runs: it looks at the tag, pulls, and commits one Kafka transaction")
    print("\n$ oci-sync run -c .stack/demo/worker.yaml examples/demo/flow.yaml &", flush=True)
    worker = Worker()
    try:
        worker.wait_for("committed", "snapshot applied")
        oci_sync("peek", TOPIC, "-c", str(WORKER_FILE), "--content")
        say("One record a file, keyed <artifact>#<path>. Every record says which pull it belongs to and of how many.")
        asyncio.run(show_store())
        say("""The sink half read the whole snapshot from the topic and wrote its keys. It knows no registry, so it
            may run elsewhere; prompts/greeting.md matches no route and is left out.""")
        title(4, "Nothing changed: one HEAD, one log line, nothing on Kafka")
        worker.wait_for(UNCHANGED)
        worker.skip()
        title(5, "A second release: one file added, one changed, one removed")
        push("release-2")
        worker.wait_for("committed", "snapshot applied")
        oci_sync("peek", TOPIC, "-c", str(WORKER_FILE))
        say("""The second pull names the digest it follows, marks what changed, and ends with a tombstone for the file
            that is gone. A compacted topic therefore always is the current set of files.""")
        title(6, "What a reader holds who begins now: the newest complete snapshot")
        oci_sync("peek", TOPIC, "-c", str(WORKER_FILE), "--snapshot")
        oci_sync("offsets", "list", "-c", str(WORKER_FILE))
        title(7, "Somebody changes the store by hand; it is repaired from the topic, without the registry")
        asyncio.run(show_store())
        print("\n$ nats kv put demo rules.eu 'limit_per_day: 999999'; nats kv del demo rules.us", flush=True)
        worker.skip()
        asyncio.run(tamper())
        asyncio.run(show_store())
        worker.wait_for("repaired")
        asyncio.run(show_store())
    finally:
        worker.end()
    what_next()


def what_next() -> None:
    """What a curious person types next."""
    title(8, "What to try next (the stack is still up; `make down` ends it)")
    print(
        textwrap.dedent(f"""
            export REGISTRY={REGISTRY} NATS_URL={NATS}
            source .venv/bin/activate
            oci-sync run -c .stack/demo/worker.yaml examples/demo/flow.yaml        # run it yourself; Ctrl-C drains
            oci-sync peek {TOPIC} -c .stack/demo/worker.yaml -f                     # and watch, while you push
            kcat -b {BOOTSTRAP} -t {TOPIC} -C -e -f '%k %S bytes\\n'                # any Kafka reader will do
            OCI_SYNC_FAULT=kill:records_sent oci-sync run …                        # dies inside a pull: nothing half,
                                                                                   # nothing twice, whoever goes on
            """).rstrip()
    )


if __name__ == "__main__":
    main()
