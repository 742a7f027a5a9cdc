"""Figures as people read them, the same on a terminal and on a page.

Sizes are binary (1 KiB is 1024 bytes), as memories are built. A figure that was not
measured is a dash.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NOT_MEASURED = "–"
SAME = "the same"

FEW_TIMES = 2
"""Ratios below it show a second decimal."""
MINUS = "\N{MINUS SIGN}"

_BYTES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))
_TIMES = ((1e3, "s"), (1.0, "ms"), (1e-3, "µs"))
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def show_bytes(size_bytes: float | None) -> str:
    """A number of bytes, three digits and a unit: `10.4 MiB`."""
    if size_bytes is None:
        return NOT_MEASURED
    return _scale(size_bytes, _BYTES) or f"{size_bytes:.0f} B"


def byte_unit(size_bytes: float) -> tuple[float, str]:
    """The unit that suits a size: (its bytes, its name)."""
    fitting = (unit for unit in _BYTES if size_bytes >= unit[0])
    return next(fitting, (1.0, "B"))


def show_count(count: float | None) -> str:
    """A large number, three digits and a letter: `1.53 G`."""
    if count is None:
        return NOT_MEASURED
    return _scale(count, _COUNTS) or f"{count:.0f}"


def show_number(count: int, noun: str) -> str:
    """A count and what is counted: `1 thread`, `1,000 samples`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def show_percent(fraction: float | None) -> str:
    """A fraction as a percentage: 0.7512 is `75.1 %`."""
    return NOT_MEASURED if fraction is None else f"{fraction * 100:.1f} %"


def show_points(delta: float) -> str:
    """A difference of fractions in points, signed: −0.005 is `−0.5 points`."""
    return f"{show_signed(delta * 100, digits=2)} points"


def show_score(metric: str, value: float | None) -> str:
    """A metric's value: a percentage, or a number in the unit of the labels."""
    return show_percent(value) if is_share(metric) else show_value(value)


def show_value(value: float | None) -> str:
    """A number in a unit of its own: `17.3`."""
    return NOT_MEASURED if value is None else f"{value:.4g}"


def show_change(metric: str, delta: float) -> str:
    """A difference of a metric's values, signed: `−0.5 points`, or `+0.0123`."""
    if is_share(metric):
        return show_points(delta)
    return show_end(metric, delta)


def show_end(metric: str, value: float) -> str:
    """An end of the interval of such a difference, without the word `points`."""
    if is_share(metric):
        return show_signed(value * 100, digits=2)
    sign = "" if value == 0 else MINUS if value < 0 else "+"
    return f"{sign}{abs(value):.3g}"


def is_share(metric: str) -> bool:
    """Whether a metric is a fraction, as one of which nothing is known is taken."""
    from skerry.tasks.metrics import METRICS

    return metric not in METRICS or METRICS[metric].is_share


def show_ms(latency_ms: float | None) -> str:
    """A time given in milliseconds, three digits and a unit: `4.21 ms`."""
    if latency_ms is None:
        return NOT_MEASURED
    return _scale(latency_ms, _TIMES) or "0 ms"


def show_metric(metric: str) -> str:
    """A metric's name as people write it: `lines_right` is `lines right`."""
    return metric.replace("_", " ")


def show_time(at_ms: int | None) -> str:
    """Show a moment in UTC, to the second; a dash where there is none.

    Example:
        >>> show_time(1_700_000_000_000)
        '2023-11-14 22:13:20 UTC'
    """
    if at_ms is None:
        return NOT_MEASURED
    try:
        moment = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"  # a clock that is beyond any calendar
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def show_end_of(name: str, letters: int) -> str:
    """A long name without its beginning: operators' names differ at their ends."""
    return name if len(name) <= letters else f"…{name[1 - letters :]}"


def show_signed(value: float, *, digits: int) -> str:
    """A number with its sign, a real minus; zero has none."""
    rounded = round(value, digits)
    text = f"{abs(rounded):.{digits}f}"
    return text if rounded == 0 else f"{MINUS if rounded < 0 else '+'}{text}"


def show_ratio(before: float, after: float, *, less: str, more: str) -> str:
    """How many times less or more: `3.9 × smaller`, or `the same`.

    Args:
        before: The first figure.
        after: The second, in the same unit.
        less: The word for an `after` below `before`, such as `smaller`.
        more: The word for the other way.
    """
    if before <= 0 or after <= 0:
        return NOT_MEASURED
    times = max(before / after, after / before)
    shown = f"{times:.2f}" if times < FEW_TIMES else f"{times:.1f}"
    if shown == "1.00":
        return SAME
    return f"{shown} × {less if after < before else more}"


def _scale(value: float, units: Sequence[tuple[float, str]]) -> str:
    for size, unit in units:
        # What would be rounded to a whole larger unit is written as that.
        if abs(value) >= size * 0.9995:
            scaled = value / size
            digits = next((n for n in (2, 1) if abs(scaled) < 10 ** (3 - n) - 0.05), 0)
            return f"{scaled:.{digits}f} {unit}"
    return ""
