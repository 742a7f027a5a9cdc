"""The counters of OpenVINO's `benchmark_app`: CSV with semicolons.

`--report_type average_counters` writes one table, `detailed_counters` one for each
inference request; the plugin's own dump has the same columns.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from skerry.adapt.profiles.words import number, word
from skerry.core.errors import DataError
from skerry.core.profile import OperatorTime, Profile, lowest_quintile

_HEAD = "layerName;execStatus;"
_UNITS = {"ms": 1.0, "mcs": 1e-3, "us": 1e-3}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    kind: int
    exec_type: int
    time: int
    of_a_ms: float


def is_counters(text: str) -> bool:
    """Whether a text has the head of such a table."""
    return _HEAD in text


def read_counters(text: str, *, name: str) -> Profile:
    """Read what was executed; an operator of several tables has several times.

    Args:
        text: The report.
        name: What messages call it.

    Raises:
        DataError: A column is missing, or a time makes no sense.
    """
    columns: _Columns | None = None
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    tables = 0
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(";")]
        if line.lstrip("\ufeff").startswith(_HEAD):
            columns, tables = _columns(cells, name), tables + 1
        elif len(cells) < 2 or not cells[0] or cells[0] == "Total":
            continue
        elif columns is not None and cells[1].rpartition(".")[2] == "EXECUTED":
            key, time_ms = _row(cells, columns, name)
            times[key].append(time_ms)
    operators = tuple(
        OperatorTime(
            name=layer,
            op_type=kind,
            latency_ms=lowest_quintile(times_ms),
        )
        for (layer, kind), times_ms in times.items()
    )
    return Profile(runtime="openvino", threads=0, repeats=tables, operators=operators)


def _row(cells: list[str], at: _Columns, name: str) -> tuple[tuple[str, str], float]:
    if len(cells) <= max(at.kind, at.exec_type, at.time):
        raise DataError(
            f"{name}: the row of {word(cells[0])!r} is cut off",
            hint="Is the file whole?",
        )
    time_ms = number(cells[at.time], name=name, what="a time") * at.of_a_ms
    kind = f"{word(cells[at.kind])} {word(cells[at.exec_type])}".strip()
    return (word(cells[0]), kind), time_ms


def _columns(cells: list[str], name: str) -> _Columns:
    """Where what is wanted stands: CPU time if there is one, else elapsed time."""
    places = {cell.partition(" ")[0]: index for index, cell in enumerate(cells)}
    time = places.get("cpuTime", places.get("realTime"))
    if time is None or "layerType" not in places:
        raise DataError(
            f"{name}: the table has no column of times",
            hint="Let benchmark_app write it: -pc --report_type average_counters.",
        )
    unit = cells[time].partition("(")[2].rstrip(")")
    return _Columns(
        kind=places["layerType"],
        exec_type=places.get("execType", places["layerType"]),
        time=time,
        of_a_ms=_UNITS.get(unit, 1.0),
    )
