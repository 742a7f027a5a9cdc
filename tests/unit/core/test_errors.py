from __future__ import annotations

import inspect
import re

import pytest

from skerry.core import errors
from skerry.core.errors import MissingExtraError, SkerryError

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, SkerryError)
]
BRANCH = re.compile(r"^([│ ]*)[├└]── (\w+) +(\d+) ", re.MULTILINE)


def drawn_tree() -> dict[str, tuple[str, int]]:
    """The tree in the docstring: by name, the parent and the exit code."""
    parents = {0: "SkerryError"}
    tree = {}
    for indent, name, code in BRANCH.findall(errors.__doc__ or ""):
        depth = len(indent) // 4
        tree[name] = (parents[depth], int(code))
        parents[depth + 1] = name
    return tree


def test_the_drawn_tree_is_the_real_one() -> None:
    """The docstring shows each class, below its parent, with its exit code."""
    real = {
        kind.__name__: (kind.__bases__[0].__name__, kind.exit_code)
        for kind in CLASSES
        if kind is not SkerryError
    }
    assert drawn_tree() == real


def test_each_exit_code_belongs_to_one_class() -> None:
    """A script can tell the kinds of error apart by the exit code."""
    codes = [kind.exit_code for kind in CLASSES]
    assert len(set(codes)) == len(codes)
    assert not set(codes) & {0, 130}


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_says_what_and_what_next(kind: type[SkerryError]) -> None:
    """Its text is what happened; the hint and the stable name stand beside it."""
    if kind is MissingExtraError:
        error: SkerryError = MissingExtraError("onnx", extra="compress")
        assert "'onnx'" in error.what
        assert "skerry[compress]" in error.hint
    else:
        error = kind("it broke", hint="mend it")
        assert (error.what, error.hint) == ("it broke", "mend it")
    assert str(error) == error.what
    assert error.code == kind.__name__
