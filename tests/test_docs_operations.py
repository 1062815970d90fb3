"""What the code can show stands in docs/operations.md, and nothing that it cannot."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from connector.server.routes import Faces, application
from connector.status import Status
from connector.telemetry import METRICS, Telemetry
from connector.telemetry.log_lines import FIELDS
from connector.telemetry.metrics import Metric

START = datetime(2026, 11, 24, tzinfo=UTC)
ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/operations.md").read_text("utf-8")
RULES = YAML(typ="safe").load((ROOT / "deploy/prometheus/rules.yaml").read_text("utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]


def row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_documented_with_its_kind_labels_and_meaning(metric: Metric) -> None:
    assert row(metric) in PAGE.splitlines()


def test_no_metric_is_documented_or_alerted_on_that_does_not_exist() -> None:
    named = set(re.findall(r"\boci_sync_[a-z_]+", PAGE + "".join(rule["expr"] for rule in ALERTS)))

    assert named <= {metric.name for metric in METRICS}


def test_every_reason_that_a_condition_can_have_is_documented() -> None:
    source = (ROOT / "connector/status/verdicts.py").read_text("utf-8")
    reasons = set(re.findall(r'Truth\.[A-Z]+, "([A-Za-z]+)"', source)) | {"Committed", "Unchanged"}

    assert len(reasons) > 8
    assert {reason for reason in reasons if f"`{reason}`" not in PAGE} == set()


@pytest.mark.parametrize("field", FIELDS)
def test_every_log_field_is_documented(field: str) -> None:
    assert f"`{field}`" in PAGE.partition("## Log lines")[2]


def test_every_route_is_documented() -> None:
    app = application(Faces(Status("w", START), Telemetry(), lambda: START))
    paths = {route.resource.canonical for route in app.router.routes() if route.resource is not None}

    assert {path for path in paths if path not in PAGE and path.replace("resume", "pause") not in PAGE} == set()


def test_every_alert_is_documented_and_says_what_to_do() -> None:
    for rule in ALERTS:
        assert f"`{rule['alert']}`" in PAGE
        assert set(rule["annotations"]) == {"summary", "description"}
