"""Look at calibration samples while they go by: are they enough, do they differ?

How many samples are enough cannot be said for all models, but it can be measured: where
the ranges that every second sample gives differ from those of the others, they differ
from the truth by as much (split-half agreement). A range is what a minimum and a
maximum make it, so the error of a half falls about as one over the root of the samples
or slower, and the number to give is told from that.

What is kept does not grow with the samples, but for four bytes each.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter

import numpy as np

from skerry.core.errors import DataError
from skerry.core.seams import Array, Tensors

FEWEST_SAMPLES = 8
"""Under this many samples, ranges depend on which ones were picked."""

MOST_MOVED = 0.1
"""Share of a range by which two halves of the samples may differ."""

MOST_COPIES = 0.1
"""Share of the samples that may be copies of others before that is told."""

LARGEST_ADVICE = 1024
"""More samples than this are never asked for."""

_ADVICE = "Give real inputs of the model, prepared as it is used."


class SamplesCheck:
    """Watches the samples of one calibration, and says what is wrong with them.

    Give each sample to `add`, then the ends of each of its values to `see`.
    """

    def __init__(self) -> None:
        self._count = 0
        self._hashes: Counter[int] = Counter()
        self._constant = 0
        # By input: the one number that it holds in all samples; None where there is
        # more than one.
        self._numbers: dict[str, float | None] = {}
        self._halves: tuple[dict[str, list[float]], ...] = ({}, {})
        self._half = self._halves[0]

    def add(self, inputs: Tensors) -> None:
        """Take in the next sample.

        Args:
            inputs: By name, as the model is given them.
        """
        self._count += 1
        self._half = self._halves[self._count % 2]
        checksum = 0
        is_constant = True
        for name in sorted(inputs):
            array = np.ascontiguousarray(inputs[name])
            checksum = zlib.crc32(array.reshape(-1).view(np.uint8).data, checksum)
            number = _only_number(array)
            is_constant &= number is not None and array.size > 1
            if number != self._numbers.setdefault(name, number):
                self._numbers[name] = None
        self._hashes[checksum] += 1
        self._constant += is_constant

    def see(self, name: str, low: float, high: float) -> None:
        """Take in the ends of a value on the sample that was added last."""
        ends = self._half.setdefault(name, [0.0, 0.0])
        ends[0] = min(ends[0], low)
        ends[1] = max(ends[1], high)

    def moved(self) -> float:
        """By how much of their width ranges differ between two halves of the samples.

        Returns:
            The median over all values, as a fraction; 0 with fewer than two samples.
        """
        first, second = self._halves
        moves = [
            max(abs(low - second[name][0]), abs(high - second[name][1])) / width
            for name, (low, high) in first.items()
            if name in second
            and (width := max(high, second[name][1]) - min(low, second[name][0])) > 0
        ]
        return _median(moves) if moves else 0.0

    def refuse(self) -> None:
        """Refuse samples from which no sensible range can come.

        Raises:
            DataError: All are the same, or each holds one number only.
        """
        if self._count > 1 and len(self._hashes) == 1:
            raise DataError(
                f"all {self._count} calibration samples are the same: ranges of one "
                "input do not hold for others",
                hint=_ADVICE,
            )
        if self._count and self._constant == self._count:
            zeros = all(number == 0 for number in self._numbers.values())
            raise DataError(
                f"each of the {self._count} calibration samples is one number over and "
                f"over{': zero' if zeros else ''}; such inputs tell nothing of ranges",
                hint=_ADVICE,
            )

    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the samples, in plain sentences."""
        notes = [*self._of_number(), *self._of_copies()]
        if self._constant:
            notes.append(
                f"{self._constant} of {self._count} calibration samples are one number "
                "over and over."
            )
        if len(self._numbers) > 1:
            notes += [
                f"The input {name!r} is {number:g} in all calibration samples: ranges "
                "behind it hold for nothing else."
                for name, number in self._numbers.items()
                if number is not None and self._count > 1
            ]
        return tuple(notes)

    def _of_number(self) -> list[str]:
        count, moved = self._count, self.moved()
        given = f"{count} calibration sample{' was' if count == 1 else 's were'} given"
        if count < FEWEST_SAMPLES:
            told = f"; ranges move by {_percent(moved)} between two halves of them"
            seen = told if count > 1 else ""
            return [f"{given}{seen}: give {4 * FEWEST_SAMPLES} or more."]
        if moved <= MOST_MOVED:
            return []
        told = f"ranges still move by {_percent(moved)} between two halves of them"
        return [f"{given}; {told}: give {enough(count, moved)} or more."]

    def _of_copies(self) -> list[str]:
        copies = self._count - len(self._hashes)
        if copies <= MOST_COPIES * self._count:
            return []
        told = f"{copies} of {self._count} calibration samples are copies of others"
        return [f"{told}: they add nothing to the ranges."]


def _median(numbers: list[float]) -> float:
    """The middle of some numbers, without all that numpy's own imports at first use."""
    ordered = sorted(numbers)
    half = len(ordered) // 2
    return (ordered[half] + ordered[-half - 1]) / 2


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"


def enough(count: int, moved: float) -> int:
    """How many samples to ask for, a power of two.

    Args:
        count: How many there were.
        moved: By how much of their width ranges moved between two halves of them.
    """
    needed = max(count * (moved / MOST_MOVED) ** 2, 2 * count, 4 * FEWEST_SAMPLES)
    return min(1 << math.ceil(math.log2(needed)), max(LARGEST_ADVICE, 2 * count))


def _only_number(array: Array) -> float | None:
    """The number that an array holds alone; None where there is another one."""
    if not array.size or array.dtype.kind not in "biuf":
        return None
    first = array.item(0)
    # Most arrays are told apart by their last number.
    if first != array.item(-1) or first != array.item(array.size // 2):
        return None
    return float(first) if (array == first).all() else None
