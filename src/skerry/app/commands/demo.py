"""`skerry demo`: what Skerry does, on a real production model, in two minutes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app.demo.show import DemoResult, run_demo
from skerry.app.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType


def demo(
    *, out: Path = Path("out"), output: Annotated[Output, Parameter(parse=False)]
) -> DemoResult:
    """Show what Skerry does: audit, compare and compress two real networks.

    Args:
        out: The folder for the page, the models and their reports.
        output: Where figures are told as they come.
    """
    return run_demo(out, output)


def render_demo(result: DemoResult) -> RenderableType:
    """Say what was done and where to look."""
    return (
        f"\nDone in {result.seconds:.0f} s. A production OCR net was audited for "
        f"{len(result.audits)} targets, timed on {len(result.runtimes)} runtimes, and "
        f"compressed: {result.text_fp32:.1%} of lines right before, "
        f"{result.text_plain_int8:.1%} with plain INT8, {result.text_int8:.1%} with "
        f"{result.text_kept_float} operators kept float by measurement.\n"
        f"Look at {result.page} in a browser; the models and their reports lie beside "
        "it.\nTry it on yours: skerry init MODEL DATA"
    )
