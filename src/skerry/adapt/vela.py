"""Read what Arm's Vela, the compiler of the Ethos-U NPUs, says of a model.

With `--verbose-performance` Vela writes two files of comma-separated values: one line
an operator, and one line for the whole. Both are written without quoting, and the last
column of the first is a tensor's name, which may hold commas itself: so it is split at
the commas that the header has, and no more.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator

from skerry.core.compiled import Compiled, CompiledOperator
from skerry.core.errors import DataError
from skerry.core.target import ProcessorKind

MAX_CSV_BYTES = 64 << 20
"""More than Vela writes of a model of a million operators."""

_OPERATOR_COLUMNS = (
    "Original Operator",
    "NNG Operator",
    "Target",
    "Op Cycles",
    "MAC Count",
    "Name",
)
_KINDS = {"NPU": ProcessorKind.NPU, "CPU": ProcessorKind.CPU}
_KIB = 1024
_FLASH = ("on_chip_flash_memory_used", "off_chip_flash_memory_used")
_SUMMARY_COLUMNS = (
    "inference_time",
    "sram_memory_used",
    "dram_memory_used",
    *_FLASH,
    "cycles_total",
    "nn_macs",
)


def parse_compiled(layers: bytes, summary: bytes, *, toolchain: str) -> Compiled:
    """Read both files of one compilation.

    Args:
        layers: `…_per-layer.csv`.
        summary: `…_summary_….csv`.
        toolchain: The compiler and its version, for the record.

    Raises:
        DataError: One of the two is not what Vela 4 or 5 writes.
    """
    figures = parse_summary(summary)
    return Compiled(
        toolchain=toolchain,
        operators=parse_layers(layers),
        cycles=round(figures["cycles_total"]),
        memory_bytes=round(figures["sram_memory_used"] * _KIB),
        storage_bytes=round(
            sum(figures[name] for name in (*_FLASH, "dram_memory_used")) * _KIB
        ),
        time_ms=figures["inference_time"] * 1000,
        macs=round(figures["nn_macs"]),
    )


def parse_layers(content: bytes) -> tuple[CompiledOperator, ...]:
    """Read the per-layer file: one entry a line.

    Raises:
        DataError: It is not what Vela writes.
    """
    lines = _lines(content, "per-layer")
    header = next(lines, "").split(",")
    missing = [name for name in _OPERATOR_COLUMNS if name not in header]
    if missing or header[-1] != "Name":
        raise _strange(
            "per-layer", f"no column {(missing or ['Name'])[0]!r} at its end"
        )
    places = {name: header.index(name) for name in _OPERATOR_COLUMNS}
    found = []
    for number, line in enumerate(lines, start=2):
        cells = line.split(",", len(header) - 1)
        if len(cells) < len(header):
            raise _strange("per-layer", f"{len(cells)} columns in line {number}")
        row = {name: cells[place] for name, place in places.items()}
        if row["Target"] not in _KINDS:
            raise _strange("per-layer", f"target {row['Target']!r} in line {number}")
        found.append(
            CompiledOperator(
                name=row["Name"],
                source=row["Original Operator"],
                op_type=row["NNG Operator"],
                kind=_KINDS[row["Target"]],
                cycles=_count(row["Op Cycles"], number),
                macs=_count(row["MAC Count"], number),
            )
        )
    return tuple(found)


def parse_summary(content: bytes) -> dict[str, float]:
    """Read the summary file: its figures by the name of their column.

    Raises:
        DataError: It is not what Vela writes.
    """
    try:
        rows = list(csv.reader(_lines(content, "summary"), strict=True))
    except csv.Error as error:
        raise _strange("summary", str(error)) from error
    if len(rows) != 2 or len(rows[0]) != len(rows[1]):
        raise _strange("summary", f"{len(rows)} lines")
    row = dict(zip(*rows, strict=True))
    figures = {}
    for name in _SUMMARY_COLUMNS:
        if name not in row:
            raise _strange("summary", f"no column {name!r}")
        figures[name] = _number(row[name], name)
    return figures


def _lines(content: bytes, which: str) -> Iterator[str]:
    if len(content) > MAX_CSV_BYTES:
        raise _strange(which, f"{len(content)} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise _strange(which, "not UTF-8") from error
    yield from (line.removesuffix("\r") for line in text.split("\n") if line.strip())


def _count(text: str, line: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise _strange("per-layer", f"{text[:40]!r} in line {line} is no count")
    return int(text)


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise _strange("summary", f"{name} is {text[:40]!r}")
    return value


def _strange(which: str, found: str) -> DataError:
    return DataError(
        f"Vela's {which} file is not as Vela 4 and 5 write it: {found}",
        hint="Install the Vela that is known: skerry toolchain install vela",
    )
