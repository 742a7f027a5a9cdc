"""What a sample is, and where samples come from; reading files is `samples`' part.

Whoever only goes through samples, as quantization does, needs no more than this, and is
spared what reading pictures and tasks imports.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from skerry.core.seams import Array

if TYPE_CHECKING:
    from skerry.tasks.prediction import Label

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One sample, ready for the model.

    Attributes:
        inputs: One array an input, with a batch axis of 1.
        label: What is true of it, as `Label` says, or None where not known.
        name: Where it is from, for messages.
    """

    inputs: dict[str, Array]
    label: Label | None
    name: str


class SampleSource(Protocol):
    """Samples that can be gone through any number of times, in the same order."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __iter__(self) -> Iterator[Sample]:
        """Go through the samples, reading each when it is reached.

        Raises:
            DataError: A sample cannot be read or does not fit the model.
        """
        ...

    def pick(self, mask: Mask) -> SampleSource:
        """Return the samples whose entry of the mask, bool [len], is true."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySource:
    """Samples in memory."""

    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        """Go through the samples."""
        return iter(self.samples)

    def pick(self, mask: Mask) -> Self:
        """Return the samples whose entry of the mask is true."""
        chosen = (self.samples[index] for index in np.flatnonzero(mask))
        return replace(self, samples=tuple(chosen))
