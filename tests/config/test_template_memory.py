"""No file makes the template of an operator take much time or memory: each is rendered by a process with a bound."""

import json
import subprocess
import sys

import pytest

MOST_ADDED_BYTES = 100_000_000  # address space; the file itself is ten of it, and stands there twice
MOST_SECONDS = 3.0

RENDERER = f"""
import json, resource, sys, time
from connector.config.template import compile_template
from connector.errors import SinkError

text, content = json.load(sys.stdin)
content = eval(content)
template = compile_template(text)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + {MOST_ADDED_BYTES},) * 2)
began = time.monotonic()
try:
    outcome = "rendered " + template.render(content=content)[:20]
except SinkError as error:
    outcome = f"{{error.reason}}: {{error.cause}}"
print(json.dumps([outcome, time.monotonic() - began]))
"""


def rendered(text: str, content: str) -> tuple[str, float]:
    """The outcome and the seconds of one render; `content` is Python that makes the file."""
    process = subprocess.run(
        [sys.executable, "-c", RENDERER],
        input=json.dumps([text, content]),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-500:]
    outcome, seconds = json.loads(process.stdout)
    return outcome, seconds


@pytest.mark.parametrize(
    ("text", "content", "outcome"),
    [
        ("{{ (content | from_yaml).f.format(1) }}", "\"f: '{:>300000000}'\"", "TemplateFailed"),
        ("{{ (content | from_yaml).x }}", "'x' * 10**7", "larger than 1024 KiB"),
        ("{{ (content | from_yaml).a }}", "'a: 1\\n' + 'b: [' + 'x,' * 45_000 + 'x]'", "rendered 1"),
        (
            "{{ (content | from_yaml).c }}",
            "'c: 1\\na: &a {' + ','.join(f'k{i}: 1' for i in range(9_999)) + '}\\nb: {<<: [' + '*a,' * 9_999 + '*a]}'",
            "more than 100000 values",
        ),
        ("{{ (content | from_json)[0] }}", "'[' + '[],' * 3_000_000 + '1]'", "may take more than 48 MB"),
        ("{{ (content | from_json)[0] }}", "'[1' + ',{\"\":0}' * 80_000 + ']'", "rendered 1"),
        ("{{ content | from_json }}", "'[' * 10**7", "TemplateFailed"),
        ("{{ content | split('\\n') | first }}", "'\\n' * 10**7", "more than 200000 parts"),
        ("{{ content | split('\\n', 1) | first }}", "'a' + '\\n' * (10**7 - 1)", "rendered a"),
        ("{{ content | lines | first }}", "'\\n' * 10**7", "more than 200000 parts"),
        ("{{ content | to_json }}", "chr(1) * 10**7", "more than 2000000 characters"),
        ("{{ content | urlencode }}", "'é' * 5_000_000", "more than 2000000 characters"),
        ("{{ content | sha256 }}", "'y' * 10**7", "rendered"),
        ("{{ content }}", "'y' * 10**7", "rendered y"),
        ("{{ content | upper | replace('y', 'yy') | length }}", "'y' * 10**7", "rendered 10000000"),
        ("{{ content | regex_match('(a+)+$') }}", "'a' * (10**7 - 1) + '!'", "rendered False"),
        (
            "{% set d = content | from_json %}{% for key in d %}{{ d | length }}{% endfor %}",
            "json.dumps({f'k{i}': 1 for i in range(10_000)})",
            "rendered 10000",
        ),
    ],
)
def test_a_hostile_file_ends_its_template_soon_and_in_little_memory(text: str, content: str, outcome: str) -> None:
    found, seconds = rendered(text, content)

    assert outcome in found
    assert seconds < MOST_SECONDS
