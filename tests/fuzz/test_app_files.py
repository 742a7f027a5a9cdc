"""Report, project and toolchain files from outside: read, or an error of our tree."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from skerry.app.commands.report import Shown, render_show
from skerry.app.markdown import verdict_to_markdown
from skerry.app.output import Output
from skerry.app.project import PROJECT_FILE, read_project
from skerry.app.report_page import report_page
from skerry.app.reports import decode_report, encode_report
from skerry.app.toolchains import read_table
from skerry.app.verdict import judge
from skerry.core.errors import UsageError
from tests.reports import BARE, FULL
from tests.strategies import damaged

GOLDEN = Path(__file__).parents[1] / "golden"
REPORTS = (encode_report(FULL), encode_report(BARE))
PROJECTS = ((GOLDEN / "project-1.toml").read_bytes(),)
TABLES = (
    b"[x]\ntitle = 'a'\nlicence = 'MIT'\npackages = ['p>=1']\nprobe = 'print(1)'\n",
)


@given(st.one_of(st.binary(max_size=200), damaged(REPORTS)))
def test_report(content: bytes) -> None:
    """A damaged report is refused, or read; what is read can be shown and judged."""
    with contextlib.suppress(UsageError):
        report = decode_report(content, name="r")
        assert report_page(report).startswith("<!doctype html>")
        verdict = judge(report, report.budget, against=report)
        assert verdict_to_markdown(verdict).startswith("### ")
        Output(stdout=io.StringIO()).result(
            Shown(report=report, html=None), render_show
        )


@given(st.one_of(st.binary(max_size=200), damaged(PROJECTS)))
def test_project(content: bytes) -> None:
    """A damaged project file is refused, or read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PROJECT_FILE
        path.write_bytes(content)
        with contextlib.suppress(UsageError):
            assert read_project(path).task.metric


@given(st.one_of(st.binary(max_size=200), damaged(TABLES)))
def test_toolchains(content: bytes) -> None:
    """A damaged table of toolchains is refused, or read; no name leads elsewhere."""
    with contextlib.suppress(UsageError):
        for name in read_table(content, name="t"):
            assert "/" not in name
            assert name not in {"", ".", ".."}
