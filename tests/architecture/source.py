"""Modules as syntax trees, so that nothing has to be imported to be checked."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SRC = REPOSITORY / "src"
PACKAGE = "skerry"


@dataclass(frozen=True, kw_only=True)
class Module:
    """One Python file of the package.

    Attributes:
        name: Its dotted name; that of a package for an `__init__.py`.
        place: Its path below `src`, with `/`.
        text: Its source.
    """

    name: str
    place: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree; a process that runs no rule never parses it."""
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """All nodes of the tree."""
        return tuple(ast.walk(self.tree))

    @property
    def room(self) -> str:
        """The folder or file just below the package; empty for its root."""
        return self.name.partition(".")[2].partition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One name that a module imports, wherever in the file it does so."""

    target: str
    line: int


def module_of(text: str, place: str) -> Module:
    """Take one source text as the file at a place below `src`."""
    parts = place.removesuffix(".py").removesuffix("/__init__").split("/")
    return Module(name=".".join(parts), place=place, text=text)


@cache
def shipped_modules() -> tuple[Module, ...]:
    """Read every module under `src/skerry`, in order of path."""
    return tuple(
        module_of(path.read_text(), path.relative_to(SRC).as_posix())
        for path in sorted((SRC / PACKAGE).rglob("*.py"))
    )


def imports_of(module: Module) -> Iterator[Import]:
    """List what a module imports; `from a import b` gives `a.b`."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(target=alias.name, line=node.lineno)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import(target=f"{node.module}.{alias.name}", line=node.lineno)
        elif _imports_by_string(node):
            yield Import(target=node.args[0].value, line=node.lineno)  # type: ignore[attr-defined]


def _imports_by_string(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and len(node.args) > 0
        and isinstance(node.args[0], ast.Constant)
        and ast.unparse(node.func) in {"importlib.import_module", "import_module"}
    )
