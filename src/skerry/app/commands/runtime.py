"""`skerry runtime ls`: what runs models here, and what to install for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skerry.app.tables import plain_table

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeRow:
    """A registered runtime.

    Attributes:
        name: Its name.
        version: The version of the library behind it; empty where it is missing.
        install: What installs it; empty where it is there.
    """

    name: str
    version: str
    install: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeList:
    """The registered runtimes, by name."""

    runtimes: tuple[RuntimeRow, ...]


def ls() -> RuntimeList:
    """List the registered runtimes, and what installs those that are missing."""
    from skerry.runtimes import runtime_names

    return RuntimeList(runtimes=tuple(_row(name) for name in runtime_names()))


def _row(name: str) -> RuntimeRow:
    from skerry.core.errors import MissingExtraError
    from skerry.runtimes import get_runtime

    try:
        return RuntimeRow(name=name, version=get_runtime(name).version, install="")
    except MissingExtraError as error:
        return RuntimeRow(name=name, version="", install=error.hint)


def render_ls(found: RuntimeList) -> RenderableType:
    """Render as a table with one row a runtime."""
    table = plain_table("runtime", "version, or how to get it")
    for row in found.runtimes:
        table.add_row(row.name, row.version or row.install)
    return table
