"""`skerry demo`: what Skerry does, on real models and a fleet of processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app.demo.day import Kept
from skerry.app.demo.show import DemoResult, run_demo
from skerry.app.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType


def demo(
    *,
    out: Path = Path("out"),
    keep: bool = False,
    output: Annotated[Output, Parameter(parse=False)],
) -> DemoResult:
    """Show what Skerry does: compress two real networks, then run a fleet with them.

    Args:
        out: The folder for the page, the models, their reports and the fleet's logs.
        keep: Leave the hub and the gateways up, to try things on them.
        output: Where figures are told as they come.
    """
    return run_demo(out, output, keep=keep)


def render_demo(result: DemoResult) -> RenderableType:
    """Say what was done and where to look."""
    field = result.accuracy_field
    lost = result.requests_failed + result.answers_wrong
    told = (
        f"\nDone in {result.seconds:.0f} s. A production OCR net was audited for "
        f"{len(result.audits)} targets, timed on {len(result.runtimes)} runtimes, and "
        f"compressed: {result.text_fp32:.1%} of lines right before, "
        f"{result.text_plain_per_tensor:.1%} with plain INT8, {result.text_int8:.1%} "
        f"with {result.text_kept_float or 'no'} operators kept float by measurement.\n"
        f"Three gateways answered {result.requests_total:,} requests, {lost} of them "
        f"failed or wrong, while {len(result.refused)} bad releases were refused and "
        "one gateway lost its power; the same swap done naively failed "
        f"{result.naive_failed}. Fog cost {field.before - field.drifted:.1%} of the "
        f"digits, {result.samples_sent} labels brought "
        f"{field.after - field.drifted:.1%} back.\n"
        f"Look at {result.page} in a browser; models, reports and logs lie beside it.\n"
    )
    if result.kept is not None:
        told += _left_up(result.kept)
    return told + "Try it on yours: skerry init MODEL DATA"


def _left_up(kept: Kept) -> str:
    gateways = ", ".join(f"{name} {url}" for name, url in kept.gateways.items())
    return (
        f"\nStill up: the hub at {kept.hub} (a status page too; the operator's token, "
        f"also its password, is in {kept.credentials});\n"
        f"gateways: {gateways}, all serving /v2/models/{kept.model};\n"
        f"releases: {', '.join(kept.releases)}; {kept.running} runs, {kept.spare} is "
        "good and waits for a rollout.\n"
        f"Stop them: {kept.stop}\n\n"
    )
