"""A runtime without a library: answers zeros, or what a test tells it to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from skerry.core.model import Model, ModelFormat
from skerry.core.profile import OperatorTime, Profile
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.runtimes._checks import (
    ANYTHING,
    check_inputs,
    check_load,
    check_profile,
    closed,
)
from skerry.runtimes._session import ModelSession

Answer = Callable[[Tensors], dict[str, Array]]


class NullSession(ModelSession):
    """A model that nobody runs.

    Args:
        model: Its signature is kept; a free dimension of an output is as large as the
            inputs' dimension of that symbol, or 1.
        answer: Makes the outputs from the inputs; zeros by default.
    """

    def __init__(self, model: Model, answer: Answer | None) -> None:
        super().__init__(model)
        self._answer = answer or self._zeros
        self._is_open = True

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Answer.

        Raises:
            DataError: An input is missing, unknown, or of another dtype or shape.
            RuntimeFailure: The session is closed.
        """
        check_inputs(inputs, self.inputs)
        if not self._is_open:
            raise closed("null", self._model)
        return self._answer(inputs)

    def close(self) -> None:
        """Refuse to run from now on."""
        self._is_open = False

    def _zeros(self, inputs: Tensors) -> dict[str, Array]:
        sizes = {
            own: got
            for spec in self.inputs
            for own, got in zip(spec.shape, inputs[spec.name].shape, strict=True)
            if isinstance(own, str)
        }
        return {
            spec.name: np.zeros(
                [
                    own if isinstance(own, int) else sizes.get(own or "", 1)
                    for own in spec.shape
                ],
                spec.dtype,
            )
            for spec in self.outputs
        }


class NullRuntime:
    """A fake for tests, and for measuring what everything but inference costs.

    Args:
        answer: Makes the outputs from the inputs; zeros by default.

    Example:
        >>> NullRuntime().name
        'null'
    """

    name = "null"
    version = "1"
    formats = frozenset(ModelFormat)

    def __init__(self, answer: Answer | None = None) -> None:
        self._answer = answer

    def load(self, model: Model, options: LoadOptions) -> NullSession:
        """Load nothing.

        Raises:
            UsageError: The file is not there, or the options make no sense.
            ModelError: The file is empty.
        """
        check_load(model, options, ANYTHING)
        return NullSession(model, self._answer)

    def profile(
        self, model: Model, inputs: Tensors, options: LoadOptions, *, repeats: int
    ) -> Profile:
        """Answer one operator that takes no time.

        Raises:
            UsageError, DataError, ModelError: As `load` and `run` do; and for fewer
                repeats than one.
        """
        check_profile(inputs, model.inputs, repeats)
        self.load(model, options).run(inputs)
        operator = OperatorTime(name="null", op_type="Null", latency_ms=0.0)
        return Profile(
            runtime=self.name,
            threads=options.threads,
            repeats=repeats,
            operators=(operator,),
        )
