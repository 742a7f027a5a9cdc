"""Chrome's Trace Event Format as types, for the events that we write.

From "Trace Event Format" (Google, 2016): sections "JSON Object Format", "Complete
Events" and "Metadata Events".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

_Id = Annotated[int, msgspec.Meta(ge=0)]
_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Time = Annotated[float, msgspec.Meta(ge=0)]


class _Complete(
    msgspec.Struct, frozen=True, tag_field="ph", tag="X", forbid_unknown_fields=True
):
    name: _Name
    cat: _Name
    ts: _Time
    dur: _Time
    pid: _Id
    tid: _Id
    args: dict[str, Any] = {}


class _Named(msgspec.Struct, frozen=True):
    name: _Name


class _Metadata(
    msgspec.Struct, frozen=True, tag_field="ph", tag="M", forbid_unknown_fields=True
):
    name: Literal["process_name", "thread_name"]
    pid: _Id
    args: _Named
    tid: _Id = 0
    ts: float = 0.0


class _Trace(msgspec.Struct, frozen=True):
    events: list[_Complete | _Metadata] = msgspec.field(name="traceEvents")
    unit: Literal["ms", "ns"] = msgspec.field(name="displayTimeUnit", default="ms")


def check_trace(trace: Any) -> None:
    """Fail unless a document is a trace by these types."""
    msgspec.convert(trace, _Trace)
