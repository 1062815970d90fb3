"""Log lines: one event is one line, in UTC, as text or JSON.

Nothing that an artifact or a registry says can begin a line, hide one, or show a registered secret.
"""

import json
import logging
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, TextIO

LogFormat = Literal["text", "json"]
LEVELS: tuple[str, ...] = ("DEBUG", "INFO", "WARNING", "ERROR")

# The order in which a line shows its facts; others follow in the order in which they were given.
FIELDS: tuple[str, ...] = ("artifact", "digest", "flow", "source", "pull_id", "partition", "generation", "worker")

_RECORD_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_JSON_RESERVED = frozenset({"time", "level", "logger", "message", "exception"})
# Libraries that log each request or connection at INFO; ours are the lines people read.
_QUIET_LOGGERS = ("aiohttp", "asyncio", "httpx", "httpcore", "nats")
# "abc" as a password would black out half of every line; such a secret is not one.
_SHORTEST_SECRET = 6
# Tokens live minutes; a thousand of them is a day of many registries. A registry may make one of 64 KiB.
_SECRETS_KEPT = 1_000
_CHARACTERS_KEPT = 4_000_000
_ARMOUR = "-----"  # how a line of PEM begins that holds no key
_REDACTED = "***"


def printable(text: str) -> str:
    """The text with everything that is not a visible character or a space escaped as Python writes it.

    Newlines, terminal escapes, bidirectional overrides, zero-width characters and lone surrogates cannot act.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class Secrets:
    """Values that must not be shown, and the text without them; for any thread.

    The newest thousand are kept of what was loaded, and another thousand of what lives minutes.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, None] = {}
        self._passing: dict[str, None] = {}
        self._longest_first: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Secrets {len(self._longest_first)}>"

    def add(self, *values: str) -> None:
        """Register values: passwords, tokens, `user:password` in base64, keys (each line of PEM by itself).

        Shorter ones than six are ignored.
        """
        self._keep(self._loaded, values)

    def add_passing(self, *values: str) -> None:
        """Register what lives minutes, such as a registry's tokens. However many come, what was loaded stays."""
        self._keep(self._passing, values)

    def redact(self, text: str) -> str:
        """The text with every registered value replaced by `***`."""
        # With 2,000 values this takes 0.3 ms; one pattern of them 0.7 ms, and 1.7 s to make at each new token.
        for one in self._longest_first:
            text = text.replace(one, _REDACTED)
        return text

    def _keep(self, kept: dict[str, None], values: Iterable[str]) -> None:
        lines = [line.strip() for value in values for line in value.splitlines()]
        secret = [line for line in lines if len(line) >= _SHORTEST_SECRET and not line.startswith(_ARMOUR)]
        with self._lock:
            known = kept.keys() >= set(secret)
            for one in secret:
                kept.pop(one, None)  # what is used again counts as new
                kept[one] = None
            if known:
                return
            while len(kept) > _SECRETS_KEPT or sum(map(len, kept)) > _CHARACTERS_KEPT:
                del kept[next(iter(kept))]
            self._longest_first = tuple(sorted({**self._loaded, **self._passing}, key=len, reverse=True))

    def redact_values(self, value: object) -> object:
        """A document of dicts, lists and scalars with every text in it redacted, the names of fields left alone.

        Before the document is written, not after: a secret may change its look by the escaping of JSON or HTML.
        """
        match value:
            case str():
                return self.redact(value)
            case dict():
                return {key: self.redact_values(one) for key, one in value.items()}
            case list():
                return [self.redact_values(one) for one in value]
        return value


SECRETS = Secrets()  # one for the process, as logging is


class TextLines(logging.Formatter):
    """`<time> <LEVEL> <logger>[<flow>/<source>]: <message> <key>=<value> …`.

    A fact that the message holds already is not repeated. The lines of a traceback follow, each behind `  | `.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One record as its line."""
        message = _shown(record.getMessage())
        facts = _facts(record)
        flow, source = facts.pop("flow", None), facts.pop("source", None)
        origin = "/".join(_shown(str(one)) for one in (flow, source) if one is not None)
        pairs = [f"{key}={_quoted(_shown(str(value)))}" for key, value in facts.items()]
        tail = [pair for pair in pairs if not _is_told(pair, message)]
        name = f"{record.name}[{origin}]" if origin else record.name
        line = " ".join([_log_time(record), record.levelname, f"{name}: {message}", *tail])
        trace = "".join(f"\n  | {_shown(one)}" for one in _traceback(record).splitlines())
        return line + trace


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the facts, and exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as its line."""
        line: dict[str, object] = {
            "time": _log_time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": SECRETS.redact(record.getMessage()),
        }
        for key, value in _facts(record).items():
            plain = isinstance(value, bool | int | float) or value is None
            line[f"{key}_" if key in _JSON_RESERVED else key] = value if plain else SECRETS.redact(str(value))
        if trace := _traceback(record):
            line["exception"] = SECRETS.redact(trace)
        return json.dumps(line)  # ASCII, so no reader and no terminal takes a character for a line's end


def configure_logging(log_format: LogFormat, level: str, stream: TextIO | None = None) -> None:
    """Send all log lines to standard error (or the stream), replacing what was set up before.

    `level` is one of LEVELS in any case. Raises ValueError for another.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def set_level(level: str) -> None:
    """Change how much is logged, from now on. Raises ValueError for a word that is not in LEVELS."""
    if level.upper() not in LEVELS:
        raise ValueError(f"log level {level[:40]!r} is none of {', '.join(LEVELS)}")
    logging.getLogger().setLevel(level.upper())


def _facts(record: logging.LogRecord) -> dict[str, object]:
    extras = {key: value for key, value in record.__dict__.items() if key not in _RECORD_ATTRIBUTES}
    known = {key: extras.pop(key) for key in FIELDS if key in extras}
    return {key: value for key, value in (known | extras).items() if value is not None}


def _shown(text: str) -> str:
    return printable(SECRETS.redact(text))


def _quoted(value: str) -> str:
    return value if value and not set(value) & set(' "=') else json.dumps(value, ensure_ascii=False)


def _is_told(pair: str, message: str) -> bool:
    value = pair.partition("=")[2]
    # A short value may stand in a message by chance: 3 in "3 files" is not partition=3.
    return f" {pair} " in f" {message} " or (len(value) >= 12 and value in message)


def _log_time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _traceback(record: logging.LogRecord) -> str:
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    return "\n".join(part for part in (record.exc_text, record.stack_info) if part)
