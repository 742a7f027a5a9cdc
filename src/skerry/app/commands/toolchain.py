"""`skerry toolchain install|run|ls`: vendors' tools, each in its own environment."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app import figures, toolchains
from skerry.app.output import Output
from skerry.app.tables import plain_table
from skerry.app.toolchains import Installed

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """A tool that ran; its exit code is this process's."""

    name: str
    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolchainRow:
    """A toolchain that is known or installed.

    Attributes:
        name: Its name.
        title: One line for people; empty where this version does not know it.
        licence: Of what is installed.
        installed: Where it stands and what is in it; None where it is not installed.
    """

    name: str
    title: str
    licence: str
    installed: Installed | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolchainList:
    """The toolchains, by name."""

    folder: str
    toolchains: tuple[ToolchainRow, ...]


def install(
    name: str, /, *, output: Annotated[Output, Parameter(parse=False)]
) -> Installed:
    """Install a toolchain in an environment of its own.

    Args:
        name: Its name, as `skerry toolchain ls` lists it.
        output: Where to say what is under way.
    """
    toolchain = toolchains.find_toolchain(name)
    output.talk(f"{toolchain.title}. Licence: {toolchain.licence}.")
    return toolchains.install(toolchain, told=output.talk)


def run(
    name: str,
    /,
    *arguments: str,
    output: Annotated[Output, Parameter(parse=False)],
) -> ToolRun:
    """Run a program, or Python, in a toolchain's environment.

    Args:
        name: An installed toolchain.
        arguments: After `--`: a program of the environment, or what its Python is
            given.
        output: With --json, what the tool prints goes to standard error.
    """
    toolchain = toolchains.find_toolchain(name)
    stdout = sys.stderr if output.as_json else None
    exit_code = toolchains.run_through(toolchain, arguments, stdout=stdout)
    return ToolRun(name=name, exit_code=exit_code)


def ls() -> ToolchainList:
    """List the toolchains that are known, and which are installed."""
    known = toolchains.known_toolchains()
    folder = toolchains.toolchains_folder(os.environ)
    installed = {there.name: there for there in toolchains.list_installed(folder)}
    rows = []
    for name in sorted({*known, *installed}):
        toolchain = known.get(name)
        rows.append(
            ToolchainRow(
                name=name,
                title=toolchain.title if toolchain else "",
                licence=toolchain.licence if toolchain else "",
                installed=installed.get(name),
            )
        )
    return ToolchainList(folder=str(folder), toolchains=tuple(rows))


def render_install(installed: Installed) -> RenderableType:
    """Render in one line."""
    size = figures.show_bytes(installed.size_bytes)
    return f"{installed.name}: {installed.versions} ({size} in {installed.folder})"


def render_run(ran: ToolRun) -> RenderableType:
    """Add nothing to what the tool printed."""
    from rich.console import Group

    del ran
    return Group()


def render_ls(found: ToolchainList) -> RenderableType:
    """Render one row a toolchain."""
    table = plain_table("toolchain", "installed", "#size", "licence", "")
    for row in found.toolchains:
        there = row.installed
        table.add_row(
            row.name,
            there.versions if there else "no",
            figures.show_bytes(there.size_bytes if there else None),
            row.licence,
            row.title,
        )
    return table
