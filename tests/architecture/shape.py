"""How big, how deep, named how, documented: the shape of each module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from tests.architecture.source import Module

MOST_FILE_LINES = 600
MOST_BODY_LINES = 60
MOST_FOLDERS = 3
BANNED_WORDS = {
    "base",
    "common",
    "data",
    "do",
    "handler",
    "helper",
    "info",
    "manager",
    "process",
    "util",
    "utils",
}
DATACLASS_OPTIONS = {"frozen", "slots", "kw_only"}

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED = (*_FUNCTION, ast.ClassDef)


def file_sizes(modules: Iterable[Module]) -> Iterator[str]:
    """Each file that is too long."""
    for module in modules:
        lines = len(module.text.splitlines())
        if lines > MOST_FILE_LINES:
            yield f"{module.place}: {lines} lines, at most {MOST_FILE_LINES}"


def body_sizes(modules: Iterable[Module]) -> Iterator[str]:
    """Each function whose body, without its docstring, is too long."""
    for module in modules:
        for node in module.nodes:
            if not isinstance(node, _FUNCTION):
                continue
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            if lines > MOST_BODY_LINES:
                yield (
                    f"{module.place}:{node.lineno}: {node.name} has {lines} lines,"
                    f" at most {MOST_BODY_LINES}"
                )


def depths(modules: Iterable[Module]) -> Iterator[str]:
    """Each file that lies too deep below `src/skerry`."""
    for module in modules:
        folders = module.place.count("/") - 1
        if folders > MOST_FOLDERS:
            yield f"{module.place}: {folders} folders deep, at most {MOST_FOLDERS}"


def words(modules: Iterable[Module]) -> Iterator[str]:
    """Each name that we define and that holds a word which says nothing."""
    for module in modules:
        named = [(1, part) for part in module.name.split(".")]
        named += [pair for node in module.nodes for pair in _defined(node)]
        for line, name in sorted(set(named)):
            for word in {word.lower() for word in _WORD.findall(name)} & BANNED_WORDS:
                yield f"{module.place}:{line}: {name} (the word {word!r})"


def _defined(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, _DOCUMENTED):
        yield node.lineno, node.name
    elif isinstance(node, ast.arg):
        yield node.lineno, node.arg
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.lineno, node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.lineno, node.attr
    elif isinstance(node, ast.alias) and node.asname:
        yield node.lineno, node.asname


def docstrings(modules: Iterable[Module]) -> Iterator[str]:
    """Each module, public class or public function without a docstring."""
    for module in modules:
        if ast.get_docstring(module.tree) is None:
            yield f"{module.place}:1: the module"
        yield from _undocumented(module.tree, module.place)


def _undocumented(parent: ast.Module | ast.ClassDef, place: str) -> Iterator[str]:
    for node in parent.body:
        if isinstance(node, _DOCUMENTED) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None and not _is_overload(node):
                yield f"{place}:{node.lineno}: {node.name}"
            if isinstance(node, ast.ClassDef):
                yield from _undocumented(node, place)


def _is_overload(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    return any("overload" in ast.unparse(mark) for mark in node.decorator_list)


def dataclasses(modules: Iterable[Module]) -> Iterator[str]:
    """Each dataclass that is not frozen, slotted and keyword-only."""
    for module in modules:
        for node in module.nodes:
            if not isinstance(node, ast.ClassDef):
                continue
            for mark in node.decorator_list:
                name = mark.func if isinstance(mark, ast.Call) else mark
                if ast.unparse(name) not in {"dataclass", "dataclasses.dataclass"}:
                    continue
                missing = DATACLASS_OPTIONS - _options_on(mark)
                if missing:
                    yield (
                        f"{module.place}:{node.lineno}: {node.name}"
                        f" lacks {', '.join(sorted(missing))}"
                    )


def _options_on(mark: ast.expr) -> set[str]:
    keywords = mark.keywords if isinstance(mark, ast.Call) else []
    return {
        keyword.arg or ""
        for keyword in keywords
        if isinstance(keyword.value, ast.Constant) and keyword.value.value is True
    }
