"""Chrome's Trace Event Format as a JSON schema, for the events that we write.

From "Trace Event Format" (Google, 2016): sections "JSON Object Format", "Complete
Events" and "Metadata Events".
"""

from __future__ import annotations

from typing import Any

import jsonschema_rs

_IDS = {
    "pid": {"type": "integer", "minimum": 0},
    "tid": {"type": "integer", "minimum": 0},
}
_COMPLETE = {
    "type": "object",
    "required": ["name", "cat", "ph", "ts", "dur", "pid", "tid"],
    "properties": {
        **_IDS,
        "ph": {"const": "X"},
        "name": {"type": "string", "minLength": 1},
        "cat": {"type": "string", "minLength": 1},
        "ts": {"type": "number", "minimum": 0},
        "dur": {"type": "number", "minimum": 0},
        "args": {"type": "object"},
    },
    "additionalProperties": False,
}
_METADATA = {
    "type": "object",
    "required": ["name", "ph", "pid", "args"],
    "properties": {
        **_IDS,
        "ph": {"const": "M"},
        "name": {"enum": ["process_name", "thread_name"]},
        "ts": {"type": "number"},
        "args": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string", "minLength": 1}},
        },
    },
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "required": ["traceEvents"],
    "properties": {
        "traceEvents": {
            "type": "array",
            "items": {"oneOf": [_COMPLETE, _METADATA]},
        },
        "displayTimeUnit": {"enum": ["ms", "ns"]},
    },
}


def check_trace(trace: Any) -> None:
    """Fail unless a document is a trace by the schema."""
    jsonschema_rs.validate(SCHEMA, trace)
