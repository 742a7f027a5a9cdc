"""Steps before a model in the order in which they are quickest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from skerry.core.seams import Array
from skerry.tasks.steps import Layout, Normalize, PreStep


@dataclass(frozen=True, slots=True, kw_only=True)
class _LaidOut:
    """A layout, then what came before it: the same numbers in a tenth of the time.

    To turn pixels into planes takes a while, of floats far longer than of bytes.
    """

    version: ClassVar[int] = 1

    normalize: Normalize
    layout: Layout

    def apply(self, array: Array) -> Array:
        """Lay out and normalize, [H, W, 3] of any dtype to float32."""
        laid = self.layout.apply(array)
        return self.normalize.apply_along(
            laid,
            axis=laid.ndim - (3 if self.layout.order == "CHW" else 1),
            is_reversed=self.layout.channels == "BGR",
        )


def merge_steps(steps: Sequence[PreStep]) -> tuple[PreStep, ...]:
    """The same steps, those turned about that are quicker the other way round."""
    merged: list[PreStep] = []
    for step in steps:
        before = merged[-1] if merged else None
        if (
            isinstance(step, Layout)
            and isinstance(before, Normalize)
            and step.channels != "GRAY"  # which mixes channels
        ):
            merged[-1] = _LaidOut(normalize=before, layout=step)
        else:
            merged.append(step)
    return tuple(merged)
