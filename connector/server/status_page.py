"""The page for people: one HTML document made of one view, with no script and nothing fetched from elsewhere."""

import base64
import hashlib
import re
from datetime import datetime
from pathlib import Path

from minijinja import Environment

from connector.status import View, as_json
from connector.status.facts import Source
from connector.telemetry import SECRETS

_NAME = "status_page.html"  # the ending switches escaping on
_TEMPLATE = Path(__file__).with_name(_NAME).read_text("utf-8")
_STYLE = re.search(r"<style>(.*?)</style>", _TEMPLATE, re.DOTALL)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE[1].encode() if _STYLE else b"").digest()).decode()
_ENVIRONMENT = Environment(templates={_NAME: _TEMPLATE})

# Should a value ever escape its escaping, the browser still runs and fetches nothing.
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"
)


def render(view: View) -> str:
    """The page, as HTML."""
    ages = {"/".join(one.facts.id): _times(one.facts, view.at) for one in view.sources}
    return _ENVIRONMENT.render_template(_NAME, status=SECRETS.redact_values(as_json(view)), times=ages)


def short_duration(seconds: float) -> str:
    """A duration in its largest unit: '41s', '2m', '3h', '9d'."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _times(source: Source, at: datetime) -> dict[str, str]:
    age = short_duration((at - source.last_change).total_seconds()) if source.last_change else "–"
    due = short_duration((source.next_tick - at).total_seconds()) if source.next_tick else "–"
    return {"age": age, "next": due}
