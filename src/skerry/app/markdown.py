"""A verdict as Markdown, for a comment on a pull request.

Names and notes come from files of strangers: they are escaped, so that none becomes
markup, a link, a mention of somebody or a number of an issue; and they are cut, so that
the whole is a comment's size.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from skerry.app import figures
from skerry.app.verdict import Row, Verdict
from skerry.core.budget import Breach

LONGEST = 240
"""Characters of a name or a note that are shown."""

MOST_LINES = 20
"""Entries of a list that are shown; more are counted."""

MOST_NAMES = 4
"""Operators that are named at once; more are counted."""

_MARKUP = re.compile(r"[\\`*_\[\]{}|~$!]|(?<=www)\.|:(?=//)", re.IGNORECASE)
_BEGINNING = re.compile(r"^()([-+=])|^(\d+)([.)])(?=\s|$)")
_REPLACEMENTS = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    # Mentions and issues are found after Markdown is rendered: only a break stops them.
    "@": "@<!-- -->",
    "#": "#<!-- -->",
}
_REPLACED = re.compile(f"[{''.join(_REPLACEMENTS)}]")


def escape_markdown(text: str) -> str:
    r"""Write a text so that Markdown, as GitHub renders it, shows just that.

    Line breaks become spaces, characters that cannot be seen are left out, and what is
    too long is cut.

    Example:
        >>> escape_markdown("a_b|<i>")
        'a\\_b\\|&lt;i&gt;'
        >>> escape_markdown("@all see #1")
        '@<!-- -->all see #<!-- -->1'
    """
    kept = (c for c in text[: 4 * LONGEST] if c.isspace() or not _is_hidden(c))
    seen = " ".join("".join(kept).split())
    if len(text) > 4 * LONGEST or len(seen) > LONGEST:
        seen = seen[: LONGEST - 1] + "…"
    marked = _MARKUP.sub(lambda found: "\\" + found[0], seen)
    marked = _BEGINNING.sub(r"\1\3\\\2\4", marked)
    return _REPLACED.sub(lambda found: _REPLACEMENTS[found[0]], marked)


def verdict_to_markdown(verdict: Verdict) -> str:
    """Write a verdict as Markdown: a headline, a table, and what a reader must know."""
    parts = [
        f"### {_headline(verdict)}",
        escape_markdown(verdict.summary),
        _table(verdict),
        _list(_say_breaches(verdict) + [one.statement for one in verdict.differences]),
        _titled("Kept in higher precision", _say_kept(verdict)),
        _titled("Notes", verdict.notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _is_hidden(character: str) -> bool:
    """Whether it is a control, or turns the direction of what follows."""
    return unicodedata.category(character).startswith("C")


def _headline(verdict: Verdict) -> str:
    limits = verdict.budget.limits
    breaches = (*verdict.breaches, *verdict.breaches_against)
    missed = len({breach.limit for breach in breaches})
    model = escape_markdown(verdict.model)
    if not limits:
        return f"{model}: no limit was given, so none is judged"
    if not missed:
        return f"{model}: each limit holds"
    verb = "does" if missed == 1 else "do"
    return f"{model}: {missed} of {len(limits)} limits {verb} not hold"


def _table(verdict: Verdict) -> str:
    """Lay the figures out; the column of the base is there only with one."""
    titles = ["figure", "before", "after", "base", "limit", "holds"]
    marks = ["---", "---:", "---:", "---:", "---:", "---"]
    lines = [titles, marks, *(_cells(row) for row in verdict.rows)]
    place = titles.index("base")
    if not verdict.is_compared:
        lines = [[*line[:place], *line[place + 1 :]] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Row) -> list[str]:
    holds = {None: "", True: "yes", False: "**no**"}[row.holds]
    if row.holds is False and row.after is None:
        holds += ", not measured"
    values = (_show(row, value) for value in (row.before, row.after, row.other))
    return [escape_markdown(row.name), *values, _show_limit(row), holds]


def _show(row: Row, value: float | None) -> str:
    if row.unit == "mJ":
        return figures.NOT_MEASURED if value is None else f"{value:.4g} mJ"
    shows = {
        "fraction": figures.show_percent,
        "value": figures.show_value,
        "bytes": figures.show_bytes,
        "ms": figures.show_ms,
    }
    return shows[row.unit](value)


def _show_limit(row: Row) -> str:
    if row.limit is None:
        return ""
    if row.unit == "fraction":
        return f"{row.limit * 100:.3g} points lost"
    if row.unit == "value":
        return f"{row.limit * 100:.3g} % worse"
    return _show(row, row.limit)


def _say_breaches(verdict: Verdict) -> list[str]:
    said = [f"Does not hold: {_say(breach)}." for breach in verdict.breaches]
    said += [
        f"Does not hold against the base: {_say(breach)}."
        for breach in verdict.breaches_against
    ]
    return said


def _say(breach: Breach) -> str:
    """Say a breach with all digits: rounded, both sides might look the same."""
    digits = 12 if breach.limit.endswith("bytes") else 6
    allowed = f"{breach.allowed:,.{digits}g}"
    if breach.measured is None:
        return f"{breach.limit} is not measured, allowed {allowed}"
    return f"{breach.limit} is {breach.measured:,.{digits}g}, allowed {allowed}"


def _say_kept(verdict: Verdict) -> list[str]:
    said = []
    for kept in verdict.kept:
        names = ", ".join(name[:LONGEST] for name in kept.names[:MOST_NAMES])
        more = len(kept.names) - MOST_NAMES
        rest = f" and {more:,} more" if more > 0 else ""
        said.append(f"{kept.operators}: {kept.why} ({names}{rest})")
    return said


def _titled(title: str, entries: Sequence[str]) -> str:
    return f"**{title}**\n\n{_list(entries)}" if entries else ""


def _list(entries: Sequence[str]) -> str:
    lines = [f"- {escape_markdown(entry)}" for entry in entries[:MOST_LINES]]
    more = len(entries) - MOST_LINES
    return "\n".join([*lines, f"- and {more:,} more"] if more > 0 else lines)
