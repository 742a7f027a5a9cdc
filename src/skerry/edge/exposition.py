"""Metrics as Prometheus reads them: its text format 0.0.4.

Source: "Exposition formats" in Prometheus's documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of the text format."""

Labels = tuple[tuple[str, str], ...]

Sample = tuple[str, Labels, float]
"""The suffix of a metric's name, the labels and the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric.

    Attributes:
        name: Its name.
        kind: `counter`, `gauge` or `histogram`.
        told: What it is, one line.
        samples: Its samples.
    """

    name: str
    kind: str
    told: str
    samples: Sequence[Sample]


def write_metrics(families: Iterable[Family]) -> bytes:
    """Write metrics in Prometheus's text format; one without samples is left out."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {family.told}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for suffix, of, value in family.samples:
            inner = ",".join(f'{name}="{_escape(text)}"' for name, text in of)
            shown = f"{{{inner}}}" if inner else ""
            lines.append(f"{family.name}{suffix}{shown} {_number(value)}")
    return ("\n".join(lines) + "\n").encode()


def histogram(
    of: Labels, bounds: Sequence[float], buckets: Sequence[int], *, total: float
) -> Iterator[Sample]:
    """The samples of a histogram.

    Args:
        of: Its labels.
        bounds: The upper bounds of the buckets but the last, which has none.
        buckets: How many lie in each.
        total: The sum of all.
    """
    count = 0
    for bound, count in zip(
        (*map(_number, bounds), "+Inf"), accumulate(buckets), strict=True
    ):
        yield "_bucket", (*of, ("le", bound)), count
    yield "_sum", of, total
    yield "_count", of, count


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
