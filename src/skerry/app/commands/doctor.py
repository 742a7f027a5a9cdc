"""`skerry doctor`: what works on this machine, and what to install for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skerry.app.checks import Check, check_machine
from skerry.app.tables import plain_table

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """What was found; missing parts are not a failure."""

    checks: tuple[Check, ...]


def doctor() -> Doctor:
    """Say what works on this machine, and what to install for the rest."""
    return Doctor(checks=check_machine())


def render_doctor(found: Doctor) -> RenderableType:
    """Render as a table with one row a check."""
    from rich.text import Text

    table = plain_table("", "part", "found, or how to get it")
    for check in found.checks:
        mark = Text("ok", "green") if check.ok else Text("missing", "yellow")
        table.add_row(mark, check.part, check.found or check.install)
    return table
