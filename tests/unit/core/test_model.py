from __future__ import annotations

import pytest

from skerry.core.model import TensorSpec

SPEC = TensorSpec(name="x", dtype="float32", shape=("batch", 3, None))


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((1, 3, 8), True),
        ((0, 3, 0), True),
        ((1, 4, 8), False),
        ((1, 3), False),
        ((1, 3, 8, 1), False),
        ((), False),
    ],
)
def test_numbers_must_match_and_symbols_take_any_size(
    shape: tuple[int, ...], *, fits: bool
) -> None:
    """A shape fits where each number is met and the rank is right."""
    assert SPEC.accepts(shape) is fits


def test_a_shape_of_numbers_is_static() -> None:
    """One symbol or one unknown size makes it dynamic."""
    assert not SPEC.is_static
    assert TensorSpec(name="x", dtype="int8", shape=(1, 2)).is_static


def test_a_tensor_is_shown_on_one_line() -> None:
    """Unknown sizes are question marks."""
    assert str(SPEC) == "x float32[batch×3×?]"
