"""How the processes log: one line an event, for people or for machines.

Rooms log an event's name and its fields (`log.info("release.accepted", extra={…})`);
this is the one place that decides where that goes and how it looks.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

ROOT = "skerry"
EVENT_FIELDS = "fields"
"""An event of a device's log brings its own fields under this name."""

_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class LogFormat(StrEnum):
    """How a line looks."""

    TEXT = "text"
    JSON = "json"


def set_up(log_format: LogFormat, *, level: int = logging.INFO) -> None:
    """Send what Skerry logs to standard error, one line an event.

    What other libraries log is shown from warnings up.

    Args:
        log_format: How a line looks.
        level: From which level on Skerry's own events are shown.
    """
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(_Json() if log_format is LogFormat.JSON else _Text())
    root = logging.getLogger()
    root.handlers = [stream]
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = {
        name: value for name, value in vars(record).items() if name not in _OWN_FIELDS
    }
    inner = fields.get(EVENT_FIELDS)
    if isinstance(inner, Mapping):
        del fields[EVENT_FIELDS]
        fields.update(inner)
    return fields


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Text(logging.Formatter):
    """`2026-11-21T07:32:16.000Z info release.accepted release=meter/1`."""

    def format(self, record: logging.LogRecord) -> str:
        words = [_moment(record), record.levelname.lower(), record.getMessage()]
        words += [f"{name}={value}" for name, value in _fields(record).items()]
        line = " ".join(" ".join(words).split())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _Json(logging.Formatter):
    """One JSON object a line: `at`, `level`, `logger`, `event`, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()
