"""Latencies that are measured on a device, where the result is to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from skerry.core.errors import StateError
from skerry.core.model import Model
from skerry.core.profile import InferenceTime, Profile
from skerry.core.seams import LoadOptions, Runtime, Tensors
from skerry.tasks.measure import Ratio
from skerry.tasks.profiling import Subject

ONE_THREAD = LoadOptions(threads=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a model takes on a device beside the source.

    Attributes:
        before_ms: One inference of the source.
        after_ms: One of the model.
        ratio: The second ÷ the first.
        repeats: Inferences of each.
    """

    before_ms: float
    after_ms: float
    ratio: Ratio
    repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Measures models on a device.

    Attributes:
        place: Which one, such as `ssh://pi@board`.
        measure: Profiles subjects there, in turns.
    """

    place: str
    measure: Callable[[Sequence[Subject]], Sequence[Profile]]

    def profile(self, model: Model, inputs: Tensors, runtime: Runtime) -> Profile:
        """Profile one model, on one thread.

        Raises:
            SkerryError: It cannot be measured there; the message says why.
        """
        return self.measure([_subject(model, inputs, runtime)])[0]

    def latency_ms(self, model: Model, inputs: Tensors, runtime: Runtime) -> float:
        """The time of one inference, on one thread.

        Raises:
            As `profile`.
        """
        return _whole(self.profile(model, inputs, runtime)).wall_ms

    def compare(
        self,
        before: tuple[Model, Tensors, Runtime],
        after: tuple[Model, Tensors, Runtime],
    ) -> Pace:
        """Time two models in turns, on one thread.

        The interval of the ratio is what both are noisy by: how far two interleaved
        halves of their times are apart.

        Raises:
            As `profile`.
        """
        profiles = self.measure([_subject(*before), _subject(*after)])
        old, new = (_whole(one) for one in profiles)
        middle = new.wall_ms / max(old.wall_ms, 1e-9)
        noise = min(old.noise + new.noise, 1.0)
        return Pace(
            before_ms=old.wall_ms,
            after_ms=new.wall_ms,
            ratio=Ratio(
                median=middle, low=middle * (1 - noise), high=middle * (1 + noise)
            ),
            repeats=profiles[1].repeats,
        )


def _subject(model: Model, inputs: Tensors, runtime: Runtime) -> Subject:
    return Subject(model=model, runtime=runtime, inputs=inputs, options=ONE_THREAD)


def _whole(profile: Profile) -> InferenceTime:
    if profile.inference is None:
        raise StateError(
            f"{profile.title}: no whole inference was measured",
            hint="Measure it by itself: skerry profile --on.",
        )
    return profile.inference
