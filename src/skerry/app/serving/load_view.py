"""How a load looks on a terminal: while it runs, and what came of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from skerry.app import figures
from skerry.app.output import Output
from skerry.app.serving.bench import BenchResult, summarize
from skerry.app.serving.latencies import Bucket, merge
from skerry.app.serving.load import LoadPlan, Tally
from skerry.app.tables import plain_table

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST_ROWS = 16
"""Rows of a histogram on a terminal."""

_BAR_WIDTH = 40
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_SHOWN = ("p50", "p90", "p99", "p99_9", "max")


@contextlib.contextmanager
def live_view(
    output: Output, plan: LoadPlan
) -> Iterator[Callable[[Tally], None] | None]:
    """Show a load while it runs, on a terminal; elsewhere show nothing.

    Yields:
        What to call with what was counted so far, or None.
    """
    if not output.console.is_terminal:
        yield None
        return
    from rich.live import Live

    with Live(console=output.console, auto_refresh=False, transient=True) as live:

        def show(tally: Tally) -> None:
            live.update(show_tally(tally, plan), refresh=True)

        yield show


def show_tally(tally: Tally, plan: LoadPlan) -> RenderableType:
    """Show what was counted so far."""
    from rich.console import Group
    from rich.text import Text

    head = (
        f"{tally.elapsed_s:.1f} s of {plan.duration_s:g} · "
        f"{tally.recent_per_s:.0f} requests/s · {tally.latencies.count:,} answered"
    )
    parts: list[RenderableType] = [
        Text(head, "bold"),
        _percentiles(summarize(tally)),
    ]
    if tally.failures:
        parts.append(Text(show_failures(tally.failures), "red"))
    parts.append(show_histogram(tally.latencies.buckets()))
    return Group(*parts)


def show_result(found: BenchResult) -> RenderableType:
    """Show what came of a load."""
    from rich.console import Group
    from rich.text import Text

    load = found.load
    how = figures.show_number(load.clients, "client")
    if load.rate_per_s is not None:
        how += f", {load.rate_per_s:g} requests/s due"
    head = f"{found.model} over {found.face}: {how}, {found.elapsed_s:.1f} s"
    sum_up = (
        f"{figures.show_number(found.count, 'request')} answered, "
        f"{found.requests_per_s:.1f} a second"
    )
    if found.delayed:
        sum_up += f"; {found.delayed:,} sent late, all clients were waiting"
    parts: list[RenderableType] = [Text(head, "bold"), sum_up]
    if found.failures:
        parts.append(Text(show_failures(found.failures), "red"))
    cpu_ms = found.cpu_ms_per_request
    if cpu_ms is not None:
        parts.append(f"{figures.show_ms(cpu_ms)} of CPU a request, workers included")
    if found.latency_ms:
        parts += [
            "",
            _percentiles(found.latency_ms),
            "",
            show_histogram(found.histogram),
        ]
    parts += [f"Written: {path}" for path in found.files]
    return Group(*parts)


def show_failures(failures: Mapping[str, int]) -> str:
    """How many failed, by kind."""
    total = sum(failures.values())
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in failures.items())
    return f"{total:,} failed: {kinds}"


def show_histogram(buckets: Sequence[Bucket]) -> RenderableType:
    """Draw a bar a bucket; the buckets grow with the latency."""
    buckets = merge(buckets, most=MOST_ROWS)
    table = plain_table("#from", "#to", "#requests", "")
    most = max((bucket.count for bucket in buckets), default=0)
    for bucket in buckets:
        table.add_row(
            figures.show_ms(bucket.low_ms),
            figures.show_ms(bucket.high_ms),
            f"{bucket.count:,}",
            _bar(bucket.count / most if most else 0.0, is_any=bucket.count > 0),
        )
    return table


def _percentiles(latency_ms: Mapping[str, float]) -> RenderableType:
    names = [name for name in _SHOWN if name in latency_ms]
    if not names:
        return "no answer yet"
    table = plain_table("latency", *(f"#{name.replace('_', '.')}" for name in names))
    table.add_row("", *(figures.show_ms(latency_ms[name]) for name in names))
    return table


def _bar(share: float, *, is_any: bool) -> str:
    eighths = round(share * _BAR_WIDTH * 8)
    if is_any:
        eighths = max(eighths, 1)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")
