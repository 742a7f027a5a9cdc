"""What all sessions of the runtimes here have in common."""

from __future__ import annotations

from skerry.core.model import Model, TensorSpec


class ModelSession:
    """A session whose signature is that of the model it was loaded from.

    Args:
        model: The model, for its signature and for messages.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs, in order."""
        return self._model.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs, in order."""
        return self._model.outputs
