"""A verdict as Markdown: what strangers named stays a name."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from skerry.app.markdown import LONGEST, escape_markdown, verdict_to_markdown
from skerry.app.verdict import judge
from skerry.core.budget import Budget
from skerry.core.report import LayerRow, Report
from tests.reports import BARE, FULL
from tests.unit.app.test_verdict import BASE

GOLDEN = Path(__file__).parents[2] / "golden" / "check-1.md"
LOSS = Budget(accuracy_drop=0.005)
SPECIAL = "\\`*_[](){}<>|~$!#@&+-=.:/ \n1aw"


def rendered(text: str) -> str:
    """What a reader sees of an escaped text in a list, as plain text."""
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    body = page.render(f"- x {escape_markdown(text)}\n- {escape_markdown(text)}")
    first, second = body.split("<li>")[1:]
    assert "<" not in first.replace("<!-- -->", "").removesuffix("</li>\n")
    shown = second.partition("</li>")[0].replace("<!-- -->", "")
    return html.unescape(shown)


@given(st.text(alphabet=SPECIAL, max_size=40))
def test_what_is_escaped_is_shown_as_it_is(text: str) -> None:
    """No character becomes markup, wherever it stands."""
    assert rendered(text) == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("@all", "@<!-- -->all"),
        ("fixes #12", "fixes #<!-- -->12"),
        ("https://a.example", "https\\://a.example"),
        ("www.a.example", "www\\.a.example"),
        ("1. one", "1\\. one"),
        ("1.5 ms", "1.5 ms"),
        ("a\u202eb\x1b[0m\u2028c", "ab\\[0m c"),
    ],
)
def test_links_mentions_and_hidden_characters(text: str, escaped: str) -> None:
    """What a site would act upon is broken; what cannot be seen is left out."""
    assert escape_markdown(text) == escaped


def test_a_long_text_is_cut() -> None:
    """Megabytes of a name are a line of it."""
    assert len(escape_markdown("x" * 10_000_000)) == LONGEST
    assert escape_markdown("x " * LONGEST * 9).endswith("…")


def test_the_golden_summary() -> None:
    """The whole comment, with a base, a limit missed, and a name that is markup."""
    verdict = judge(FULL, replace(FULL.budget, accuracy_drop=0.005), against=BASE)
    assert verdict_to_markdown(verdict) == GOLDEN.read_text()


@pytest.mark.parametrize(
    ("report", "budget", "headline"),
    [
        (FULL, Budget(), "no limit was given, so none is judged"),
        (FULL, Budget(accuracy_drop=0.01), "each limit holds"),
        (FULL, FULL.budget, "1 of 2 limits does not hold"),
        (BARE, Budget(latency_ms=1, energy_mj=1), "2 of 2 limits do not hold"),
    ],
)
def test_the_headline(report: Report, budget: Budget, headline: str) -> None:
    """It says at once what came of it."""
    words = verdict_to_markdown(judge(report, budget))
    assert words.splitlines()[0].endswith(headline)
    assert "base" not in words
    assert ("not measured" in words) == (report is BARE)


def test_it_is_a_comment_s_size() -> None:
    """However many operators and reasons there are; the rest is counted."""
    layers = tuple(
        LayerRow(name="n" * 9000, op_type="Conv", dtype="float32", why=f"{i // 9} @")
        for i in range(9 * 500)
    )
    notes = ("#" * 9000,) * 500
    words = verdict_to_markdown(judge(replace(FULL, layers=layers, notes=notes), LOSS))
    assert "- and 480 more" in words
    assert len(words) < 65_536
