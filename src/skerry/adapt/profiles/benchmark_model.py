"""What TFLite's `benchmark_model --enable_op_profiling` prints, as text or as CSV.

Of its tables only "Run Order" is read: the others hold the same, sorted or summed up;
and of several, that of the regular runs, not of the initialization.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from skerry.adapt.profiles.words import LONGEST_LINE, number, word
from skerry.core.errors import DataError
from skerry.core.profile import OperatorTime, Profile

_ORDER = re.compile(r"=+ Run Order =+")
_REGULAR = "for Regular Benchmark Runs"
_NUMBER = r"-?\d{1,15}(?:\.\d{1,15})?(?:e[+-]?\d{1,3})?"
_THREADS = re.compile(r"(?:Num threads|threads used for CPU inference): \[(\d{1,4})\]")
_GRAPH = re.compile(r"Graph: \[(.{1,400}?)\]")
_OVERALL = re.compile(r"footprint.{0,80}overall=(\d{1,9}(?:\.\d{1,9})?)")
_COUNT = re.compile(r"^.{0,80}?Timings \(microseconds\): count=(\d{1,9})", re.MULTILINE)


def is_benchmark_model(text: str) -> bool:
    """Whether a text has such a table."""
    return _ORDER.search(text) is not None


def read_run_order(text: str, *, name: str) -> Profile:
    """Read the operators in the order in which they ran.

    Args:
        text: What was printed, a log's marks in front of the lines or not.
        name: What messages call it.

    Raises:
        DataError: The table has not the columns that are known.
    """
    regular = text.rpartition(_REGULAR)
    table = regular[2] if regular[1] else text
    starts = [found.end() for found in _ORDER.finditer(table)]
    if not starts:
        raise _cut_off(name)
    lines = table[starts[0] if regular[1] else starts[-1] :].splitlines()
    operators = _operators([line[:LONGEST_LINE] for line in lines], name)
    threads, overall = _THREADS.search(text), _OVERALL.findall(text)
    graph, counts = _GRAPH.search(text), _COUNT.findall(table)
    return Profile(
        runtime="tflite",
        threads=int(threads[1]) if threads else 0,
        repeats=int(counts[0]) if counts else 0,
        operators=operators,
        model=word(graph[1].rpartition("/")[2]) if graph else "",
        memory_bytes=int(float(overall[-1]) * 2**20) if overall else None,
    )


def _operators(lines: Sequence[str], name: str) -> tuple[OperatorTime, ...]:
    head = next((line for line in lines if "node type" in line), None)
    if head is None:
        raise _cut_off(name)
    is_csv = "[node type]" not in head
    titles = re.findall(r"avg.ms|\[?start\]?|\[?first\]?", head)
    if not any(title.startswith("avg") for title in titles):
        raise _cut_off(name)
    row = _row_pattern(len(titles), is_csv=is_csv)
    operators: list[OperatorTime] = []
    for line in lines[lines.index(head) + 1 :]:
        found = row.search(line)
        if found is None:
            if operators or not line.strip():
                break
            continue
        average = re.findall(_NUMBER, found["times"])[-1]
        operators.append(
            OperatorTime(
                name=word(found["name"]) or word(found["kind"]),
                op_type=word(found["kind"]),
                latency_ms=number(average, name=name, what="an average"),
            )
        )
    return tuple(operators)


def _row_pattern(times: int, *, is_csv: bool) -> re.Pattern[str]:
    """A row: the type, `times` times, two shares, memory, calls, and the name."""
    gap = r",\s{0,40}" if is_csv else r"\s{1,80}"
    share = rf"{_NUMBER}%{gap}"
    return re.compile(
        rf"(?:^|\] |INFO: )\s{{0,80}}(?P<kind>[A-Za-z_][^\[\]]{{0,120}}?){gap}"
        rf"(?P<times>(?:{_NUMBER}{gap}){{{times}}}){share}{share}"
        rf"{_NUMBER}{gap}\d{{1,9}}{gap}(?P<name>\S.{{0,400}})$"
    )


def _cut_off(name: str) -> DataError:
    return DataError(
        f"{name}: the table of operators is cut off, or of an unknown form",
        hint="Let benchmark_model print it: --enable_op_profiling=true.",
    )
