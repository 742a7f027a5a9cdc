"""Systrace: the text that Linux' ftrace gives, with the marks of Android's atrace.

A line is `task-tid (tgid) [cpu] flags seconds: tracing_mark_write: B|pid|name`; `E`
ends what its thread began last (the tracer's section in the kernel's
Documentation/trace/ftrace.rst, the marks as AOSP's libcutils writes them). A systrace
page holds these lines between those of the viewer, which say nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from skerry.adapt.profiles.slices import Slice, profiles_of
from skerry.adapt.profiles.words import LONGEST_LINE, number, word
from skerry.core.profile import Profile

_MARK = "tracing_mark_write: "
_LINE = re.compile(
    r"\s*(?P<task>.{1,64})-(?P<tid>\d{1,10})\s+(?:\(\s*(?P<tgid>\d{1,10}|-+)\)\s+)?"
    r"\[\d{1,4}\]\s+(?:\S{1,8}\s+)?(?P<seconds>\d{1,9}\.\d{1,9}):\s+$",
    re.ASCII,
)


def is_ftrace(text: str) -> bool:
    """Whether a text holds marks of a systrace."""
    return _MARK in text


def read_ftrace(text: str, *, name: str) -> tuple[Profile, ...]:
    """Read the marks that threads made.

    Args:
        text: The trace.
        name: What messages call it.

    Raises:
        DataError: A time makes no sense.
    """
    return profiles_of(_slices(text, name))


def _slices(text: str, name: str) -> Iterator[Slice]:
    begun: dict[str, list[tuple[str, str, float]]] = {}
    for line in text.splitlines():
        head, sign, mark = line[:LONGEST_LINE].partition(_MARK)
        if not sign or (found := _LINE.match(head)) is None:
            continue
        tid = found["tid"]
        at_us = number(found["seconds"], name=name, what="a time stamp") * 1e6
        kind, *rest = mark.strip().split("|", 2)
        if kind == "B" and len(rest) == 2:
            pid, what = rest
            begun.setdefault(tid, []).append((pid[:40], word(what), at_us))
        elif kind == "E" and begun.get(tid):
            pid, what, began_us = begun[tid].pop()
            yield Slice(
                owner=f"process {pid}",
                thread=f"{word(found['task'])}-{tid}",
                name=what or "unnamed",
                kind="",
                start_us=began_us,
                duration_us=max(0.0, at_us - began_us),
            )
