"""Keep an eye on outputs while a model is scored: are they numbers, do they differ?"""

from __future__ import annotations

import numpy as np

from skerry.core.model import TensorSpec
from skerry.core.seams import Array, Session, Tensors
from skerry.tasks.evaluate import output_distance

FEWEST_ALIKE = 8
"""Samples with equal outputs before that is held against a model whose source tells
them apart."""


NOTICEABLE = 0.01
"""Relative squared error between the outputs for two samples that is no rounding."""


class Trace:
    """What a model's outputs were like, in the order of the samples.

    Attributes:
        runs: How many samples it was run on.
        unsound: The samples, by number, for which an output was NaN or infinite.
        is_constant: Whether all outputs were those of the first sample, bit for bit.
        varied: The number of the first sample whose outputs were noticeably others
            than those of the first one; None as long as there is none.
    """

    def __init__(self) -> None:
        self.runs = 0
        self.unsound: set[int] = set()
        self.is_constant = True
        self.varied: int | None = None

    def broken(self, right: Trace) -> str:
        """What is wrong with the outputs, against those of the source; or nothing.

        Args:
            right: Of the source, on the same samples and perhaps more.
        """
        worse = self.unsound - right.unsound
        if worse:
            return (
                f"outputs become NaN or infinite on {len(worse)} of {self.runs} samples"
            )
        is_told_apart = right.varied is not None and right.varied < self.runs
        if self.is_constant and is_told_apart and self.runs >= FEWEST_ALIKE:
            return f"the outputs are the same for all of {self.runs} samples"
        return ""


class TracedSession:
    """A session whose outputs are looked at.

    Args:
        session: What runs the model; closed with this.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._first: dict[str, Array] = {}
        self.trace = Trace()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs, in order."""
        return self._session.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs, in order."""
        return self._session.outputs

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run one inference.

        Raises:
            DataError, RuntimeFailure: As the session does.
        """
        outputs = self._session.run(inputs)
        trace = self.trace
        if not all(map(_is_sound, outputs.values())):
            trace.unsound.add(trace.runs)
        if not trace.runs:
            self._first = {name: array.copy() for name, array in outputs.items()}
        elif trace.varied is None:
            distance = output_distance(self._first, outputs)
            trace.is_constant &= distance == 0
            if distance > NOTICEABLE:
                trace.varied = trace.runs
                self._first = {}
        trace.runs += 1
        return outputs

    def close(self) -> None:
        """Give back what the runtime holds."""
        self._session.close()


def _is_sound(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
