"""Shapes as people type them."""

from __future__ import annotations

import pytest

from skerry.app.arguments import parse_shapes
from skerry.core.errors import UsageError


@pytest.mark.parametrize(
    ("texts", "shapes"),
    [
        ([], {}),
        (["x=1x3x48"], {"x": (1, 3, 48)}),
        (["x=1×3,48"], {"x": (1, 3, 48)}),
        (["a=b=7", "z:0=1x2"], {"a=b": (7,), "z:0": (1, 2)}),
    ],
)
def test_shapes(texts: list[str], shapes: dict[str, tuple[int, ...]]) -> None:
    """Sizes are parted by x, × or a comma; a name may hold anything."""
    assert parse_shapes(texts, ["x", "y"]) == shapes


def test_one_input_needs_no_name() -> None:
    """The name may be left out where there is one input."""
    assert parse_shapes(["1x2"], ["x"]) == {"x": (1, 2)}


@pytest.mark.parametrize(
    "text", ["1x2", "x=", "x=a", "x=1xx2", "=1x2", "x=-1x2", "x=1x", "x=٣", ""]
)
def test_what_is_no_shape(text: str) -> None:
    """Anything else is an error that shows how to write one."""
    with pytest.raises(UsageError) as raised:
        parse_shapes([text], ["x", "y"])
    assert "x=1x3x48x320" in raised.value.hint


def test_a_shape_is_given_once() -> None:
    """Two shapes for one input contradict each other."""
    with pytest.raises(UsageError, match="two shapes"):
        parse_shapes(["x=1", "x=2"], ["x"])
