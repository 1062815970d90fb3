"""Log lines that cannot be forged, ids by their RFCs, and events that are counted."""

import io
import json
import logging
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.telemetry import METRICS, SECRETS, Telemetry, configure_logging, set_level, traceparent, uuid7
from connector.telemetry.log_lines import Secrets, printable

DIGEST = "sha256:" + "ab" * 32
LOG = logging.getLogger("connector.source.tasks.oci_sync")
UNCHANGED = "OCI manifest digest unchanged since last pull, skipping layer fetch"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def lines(log_format: str, write: object = None, level: str = "info") -> list[str]:
    stream = io.StringIO()
    configure_logging("json" if log_format == "json" else "text", level, stream)
    assert callable(write)
    write()
    return stream.getvalue().splitlines()


def test_the_unchanged_line_ends_exactly_as_the_seed_has_it() -> None:
    facts = {"flow": "f", "source": "s", "artifact": "r.example.com/org/flows:prod", "digest": DIGEST}

    (bare,) = lines("text", lambda: LOG.info(UNCHANGED, extra=facts))
    (told,) = lines(
        "text", lambda: LOG.info(f"{UNCHANGED} artifact=r.example.com/org/flows:prod digest={DIGEST}", extra=facts)
    )

    assert bare.split(" ", 1)[1] == told.split(" ", 1)[1]  # all but the time of each
    pattern = (
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO connector\.source\.tasks\.oci_sync\[f/s\]: "
        rf"{UNCHANGED} artifact=r\.example\.com/org/flows:prod digest={DIGEST}"
    )
    assert re.fullmatch(pattern, bare)


def test_a_fact_that_only_looks_like_a_part_of_the_message_is_still_shown() -> None:
    (line,) = lines("text", lambda: LOG.info("3 files", extra={"partition": 3}))

    assert line.endswith(": 3 files partition=3")


def test_json_lines_hold_the_message_and_every_fact() -> None:
    facts = {"flow": "f", "digest": DIGEST, "generation": 7, "message_": "x"}

    (line,) = lines("json", lambda: LOG.warning("said %s", "so", extra=facts))

    shown = json.loads(line)
    assert shown.pop("time").endswith("Z")
    assert shown == {
        "level": "WARNING",
        "logger": "connector.source.tasks.oci_sync",
        "message": "said so",
        "flow": "f",
        "digest": DIGEST,
        "generation": 7,
        "message_": "x",
    }


HOSTILE = "a\n2026-01-01T00:00:00.000Z INFO connector: all is well\r\x1b[2K\u2028\u202e\x85\x00"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_hostile_path_cannot_forge_a_line(log_format: str) -> None:
    def write() -> None:
        LOG.error("bad title %s", HOSTILE, extra={"path": HOSTILE})
        LOG.info("next")

    shown = lines(log_format, write)

    assert len(shown) == 2
    assert all(line.isprintable() for line in shown)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(), max_size=40))
def test_no_text_whatever_adds_a_line(text: str) -> None:
    for log_format in ("text", "json"):
        (line,) = lines(log_format, lambda: LOG.info("got %s", text, extra={"path": text}))

        assert line.isprintable()
    assert printable(text).isprintable()


def test_the_lines_of_a_traceback_cannot_be_taken_for_events() -> None:
    def write() -> None:
        try:
            raise RuntimeError("boom\n2026-01-01T00:00:00.000Z INFO forged: line")
        except RuntimeError:
            LOG.exception("a bug")

    first, *rest = lines("text", write)
    (one,) = lines("json", write)

    assert first.endswith("ERROR connector.source.tasks.oci_sync: a bug")
    assert rest
    assert all(line.startswith("  | ") for line in rest)
    assert "RuntimeError: boom" in json.loads(one)["exception"]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_registered_secret_shows_nowhere(log_format: str) -> None:
    secret = 'hunter2-"quoted"-pass'
    SECRETS.add(secret)

    def write() -> None:
        try:
            raise RuntimeError(secret)
        except RuntimeError:
            LOG.exception("with %s", secret, extra={"header": f"Bearer {secret}"})

    shown = "\n".join(lines(log_format, write))

    assert "hunter2" not in shown
    assert "***" in shown


def test_a_secret_inside_another_leaves_no_rest_of_the_longer() -> None:
    secrets = Secrets()
    secrets.add("password", "password-and-more", "abc")

    assert secrets.redact("password-and-more password abc") == "*** *** abc"


def test_secrets_that_are_never_forgotten_do_not_fill_the_memory() -> None:
    secrets = Secrets()
    secrets.add(*(f"token-{n:06}" for n in range(3_000)))

    assert repr(secrets) == "<Secrets 1000>"
    assert secrets.redact("token-002999") == "***"


def test_tokens_that_come_and_go_push_out_no_password() -> None:
    secrets = Secrets()
    secrets.add("the-password-of-kafka")
    secrets.add_passing(*(f"token-{n:06}" for n in range(3_000)))

    assert secrets.redact("the-password-of-kafka token-000001 token-002999") == "*** token-000001 ***"


def test_what_is_read_again_counts_as_new() -> None:
    secrets = Secrets()
    secrets.add("the-one-in-use")
    for number in range(3_000):
        secrets.add(f"rotated-{number:06}", "the-one-in-use")

    assert secrets.redact("the-one-in-use") == "***"


def test_tokens_of_a_registry_that_makes_long_ones_do_not_fill_the_memory() -> None:
    secrets = Secrets()
    for number in range(200):
        secrets.add_passing(f"{number:06}" + "x" * 65_530)

    assert repr(secrets) == "<Secrets 61>"


def test_a_key_is_left_out_line_by_line_and_the_words_around_it_stay() -> None:
    secrets = Secrets()
    secrets.add("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END PRIVATE KEY-----\n")

    assert secrets.redact("-----BEGIN PRIVATE KEY----- kqhkiG9w0BAQEF") == "-----BEGIN PRIVATE KEY----- ***"
    assert repr(secrets) == "<Secrets 2>"


def test_the_level_changes_while_running_and_a_wrong_word_is_refused() -> None:
    def write() -> None:
        LOG.info("unheard")
        set_level("debug")
        LOG.debug("heard")

    (line,) = lines("text", write, level="warning")

    assert line.endswith("heard")
    with pytest.raises(ValueError, match="none of DEBUG, INFO"):
        set_level("loud")


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_uuid7_is_version_seven_of_the_rfc_and_holds_the_time(unix_ms: int, random: bytes) -> None:
    made = uuid.UUID(uuid7(unix_ms, random))

    assert str(made) == uuid7(unix_ms, random)
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == unix_ms


def test_uuid7_is_the_example_of_the_rfc() -> None:
    """RFC 9562, appendix A.6: rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F."""
    tail = 0xCC3 << 62 | 0x18C4DC0C0C07398F

    assert uuid7(0x017F22E279B0, tail.to_bytes(10, "big")) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(st.binary(min_size=24, max_size=24))
def test_a_traceparent_has_the_form_of_w3c_and_no_zero_ids(random: bytes) -> None:
    match = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01", traceparent(random))

    assert match
    assert match[1] != "0" * 32
    assert match[2] != "0" * 16


def test_no_metric_carries_a_digest_or_a_path() -> None:
    for metric in METRICS:
        assert not {"digest", "path", "pull_id"} & set(metric.labels), metric
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric


def test_every_call_of_telemetry_counts_by_the_definition_of_its_metric() -> None:
    telemetry = Telemetry()
    telemetry.build("0.1.0", "2.12", "3.11")
    telemetry.observe_tick("f", {"resolve": 0.04, "commit": 1e9})
    telemetry.records_produced("f", "s", {"added": 2, "removed": 1}, 900)
    telemetry.transaction("committed", 0.2)
    telemetry.registry_request("r", "HEAD", 200, 0.1)
    telemetry.registry_request("r", "HEAD", 9_999, 0.1)
    telemetry.rate_limit("r", 90, 100)
    telemetry.blob_bytes("r", 10)
    telemetry.blob_bytes("r", 5)
    telemetry.rebalanced()
    telemetry.restored(0.5)

    defined = {metric.name: metric for metric in METRICS}
    samples = {(one.name, one.labels): one.value for one in telemetry.samples()}
    for name, labels in [*samples, *((one.name, one.labels) for one in telemetry.distributions())]:
        assert len(labels) == len(defined[name].labels), name
    assert samples["oci_sync_blob_bytes_fetched_total", ("r",)] == 15
    assert samples["oci_sync_registry_requests_total", ("r", "HEAD", "error")] == 1
    assert samples["oci_sync_records_produced_total", ("f", "s", "added")] == 2


def test_importing_telemetry_loads_no_metrics_library_and_no_web_server() -> None:
    code = (
        "import sys, connector.telemetry, connector.status; print({'prometheus_client', 'aiohttp'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert done.stdout.strip() == "set()"
