from __future__ import annotations

from typing import Any

import pytest

from skerry.compress.ptq.quantize import Quantize
from skerry.compress.search.alone import LossAlone, only, surely_lost
from skerry.compress.search.candidates import quantize_step
from skerry.compress.search.scoring import Place, Seen
from skerry.core.seams import Runtime


def test_all_but_one_stay_float() -> None:
    """The recipe keeps what the step kept, and every other operator that it has."""
    step = Quantize(keep_float=("kept",))
    found = quantize_step(only(step, "b", ["a", "b", "c"]))
    assert found is not None
    assert found.keep_float == ("a", "c", "kept")


@pytest.mark.parametrize(
    ("drop", "at_worst", "expected"), [(0.1, 0.14, 0.06), (0.1, 0.3, 0.0), (-0.1, 0, 0)]
)
def test_what_chance_explains_is_no_loss(
    drop: float, at_worst: float, expected: float
) -> None:
    """One standard error is taken off, and a gain is no loss."""
    seen = Seen(accuracy=0.5, drop=drop, seen=9, total=9, holds=True, at_worst=at_worst)
    assert surely_lost(seen) == pytest.approx(expected)


def test_a_harmless_operator_loses_nothing(workplace: Any, runtime: Runtime) -> None:
    """The source itself loses nothing against itself."""
    scored = LossAlone(
        workplace.model, Place(runtime=runtime), workplace.selection, workplace.task
    )
    assert scored.measure(lambda: workplace.model, "itself") == 0.0
