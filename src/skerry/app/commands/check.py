"""`skerry check`: judge a compression in a pull request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.app.budgets import join_budgets, parse_conditions
from skerry.app.markdown import verdict_to_markdown
from skerry.app.reports import read_report
from skerry.app.verdict import Verdict, judge
from skerry.core.budget import Budget
from skerry.core.durable import write_file
from skerry.core.errors import BudgetError

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A report that was judged.

    Attributes:
        report: The file.
        against: The file of the base; None if none was given.
        verdict: What was found.
        markdown: The same for a comment on a pull request.
        written: Where the Markdown was written; None if that was not asked for.
        exit_code: 21 where a limit does not hold, else 0.
    """

    report: Path
    against: Path | None
    verdict: Verdict
    markdown: str
    written: Path | None
    exit_code: int


def check(
    report: Path,
    /,
    *,
    against: Path | None = None,
    accuracy_drop: float | None = None,
    latency_ms: float | None = None,
    size_bytes: int | None = None,
    memory_bytes: int | None = None,
    condition: tuple[str, ...] = (),
    markdown: Path | None = None,
) -> Checked:
    """Judge a compression by its budget, for a pull request.

    The exit code is 0 where each limit holds and 21 where one does not. A limit that is
    not given is that of the report.

    Args:
        report: The report.json that skerry compress wrote.
        against: The report.json of the base branch, of the same model and samples.
        accuracy_drop: The largest loss allowed, as a fraction: 0.01 is one point;
            against the source model, and against the base.
        latency_ms: The largest median latency allowed.
        size_bytes: The largest file allowed.
        memory_bytes: The largest peak of activation memory allowed.
        condition: A condition, and the largest loss allowed under it, such as
            dark=0.02; may be given several times.
        markdown: Write the summary to this file too.
    """
    read = read_report(report)
    flags = Budget(
        accuracy_drop=accuracy_drop,
        latency_ms=latency_ms,
        size_bytes=size_bytes,
        memory_bytes=memory_bytes,
        conditions=parse_conditions(condition),
    )
    budget = join_budgets(flags, read.budget)
    other = read_report(against) if against else None
    verdict = judge(read, budget, against=other)
    words = verdict_to_markdown(verdict)
    if markdown:
        write_file(markdown, words.encode())
    is_missed = bool(verdict.breaches or verdict.breaches_against)
    return Checked(
        report=report,
        against=against,
        verdict=verdict,
        markdown=words,
        written=markdown,
        exit_code=BudgetError.exit_code if is_missed else 0,
    )


def render_check(found: Checked) -> RenderableType:
    """Show the Markdown as it is, so that a workflow can take it from the output."""
    from rich.text import Text

    return Text(found.markdown.rstrip("\n"), no_wrap=True)
