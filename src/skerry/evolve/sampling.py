"""Which field samples are worth a person's look: few, varied, and not only the hard.

Half of what is chosen are the answers the model was least sure of, half are drawn at
random: uncertainty alone loses to chance about as often as it wins, and only the random
half says how good the model is out there. The stream is cut into windows and a few are
chosen of each, so that what is sent is spread over time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec
import numpy as np

from skerry.core.documents import Json
from skerry.core.errors import UsageError

ItemT = TypeVar("ItemT")


class SampleKind(StrEnum):
    """Why a sample was chosen."""

    UNCERTAIN = "uncertain"
    RANDOM = "random"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How much may be chosen, and how fast.

    Attributes:
        most: Most samples of one release from one device.
        window_frames: Frames of a window.
        per_window: Samples chosen of a window, half of each kind.
    """

    most: int = 100
    window_frames: int = 20
    per_window: int = 4

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: A number is out of its range.
        """
        is_sane = 0 <= self.most <= 100_000 and 1 <= self.window_frames <= 10_000
        if not is_sane or not 1 <= self.per_window <= self.window_frames:
            raise UsageError(
                f"cannot choose {self.per_window} of {self.window_frames} frames and "
                f"at most {self.most}",
                hint="Say: most 100, window_frames 20, per_window 4.",
            )


def read_settings(collect: Json) -> SamplingSettings:
    """Read settings from the key `collect` of a shadow's desired side.

    Raises:
        UsageError: A setting is of the wrong type or out of its range.
    """
    fields: Mapping[str, Json] = collect if isinstance(collect, dict) else {}
    try:
        return msgspec.convert(fields, SamplingSettings)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise UsageError(
            f"the settings of `collect` make no sense: {error}",
            hint="Say: most 100, window_frames 20, per_window 4.",
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen(Generic[ItemT]):
    """A sample that is worth a label.

    Attributes:
        item: The sample.
        kind: Why.
    """

    item: ItemT
    kind: SampleKind


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate(Generic[ItemT]):
    item: ItemT
    margin: float


class Sampler(Generic[ItemT]):
    """Chooses from a stream; the same stream and chance give the same choice.

    Args:
        settings: How much.
        rng: Chance.
    """

    def __init__(self, settings: SamplingSettings, *, rng: np.random.Generator) -> None:
        self._settings = settings
        self._rng = rng
        self._window: list[_Candidate[ItemT]] = []
        self._frames = 0
        self._keys: set[bytes] = set()
        self._counts = dict.fromkeys(SampleKind, 0)

    @property
    def chosen(self) -> int:
        """How many were chosen so far."""
        return sum(self._counts.values())

    @property
    def is_done(self) -> bool:
        """Whether the budget is used up."""
        return self.chosen >= self._settings.most

    def offer(
        self, item: ItemT, *, key: bytes, margin: float
    ) -> tuple[Chosen[ItemT], ...]:
        """Look at one frame.

        Args:
            item: The sample, kept until its window ends.
            key: What it shows, such as a hash; what was offered before is passed over.
            margin: By how much the best class leads the next, 0–1.

        Returns:
            What is chosen of the window that this frame ends; empty within one.
        """
        if self.is_done:
            return ()
        self._frames += 1
        if key not in self._keys:
            self._keys.add(key)
            self._window.append(_Candidate(item=item, margin=margin))
        return () if self._frames < self._settings.window_frames else self.end_window()

    def end_window(self) -> tuple[Chosen[ItemT], ...]:
        """End the window now and choose of what it holds."""
        window, self._window, self._frames = self._window, [], 0
        budget = min(self._settings.per_window, self._settings.most - self.chosen)
        # The kind that lags gets the odd one.
        lags = self._counts[SampleKind.UNCERTAIN] <= self._counts[SampleKind.RANDOM]
        n_uncertain = min((budget + lags) // 2, len(window))
        window.sort(key=lambda candidate: candidate.margin)
        rest = window[n_uncertain:]
        n_random = min(budget - n_uncertain, len(rest))
        drawn = self._rng.choice(len(rest), n_random, replace=False) if n_random else ()
        self._counts[SampleKind.UNCERTAIN] += n_uncertain
        self._counts[SampleKind.RANDOM] += n_random
        return (
            *(
                Chosen(item=candidate.item, kind=SampleKind.UNCERTAIN)
                for candidate in window[:n_uncertain]
            ),
            *(
                Chosen(item=rest[index].item, kind=SampleKind.RANDOM)
                for index in sorted(int(index) for index in drawn)
            ),
        )
