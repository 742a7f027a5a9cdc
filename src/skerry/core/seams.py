"""Every Protocol that crosses rooms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from numpy.typing import NDArray

from skerry.core.model import Model, TensorSpec
from skerry.core.profile import Profile

Array = NDArray[Any]
Tensors = Mapping[str, Array]
"""Arrays by the name of the model's input or output."""

Precision = Literal["default", "float32"]
"""What a runtime may compute float tensors in: `default` leaves it to the runtime
(OpenVINO takes bf16 where the CPU has it), `float32` forbids less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a runtime loads a model.

    Attributes:
        threads: CPU threads for one inference.
        precision: What float tensors may be computed in.
    """

    threads: int = 1
    precision: Precision = "default"


class Session(Protocol):
    """A loaded model, ready to run."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs, in order."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs, in order."""
        ...

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run one inference.

        Args:
            inputs: One array an input, of its dtype and a shape it accepts.

        Returns:
            One array an output, by name; the caller owns them.

        Raises:
            DataError: An input is missing, unknown, or of another dtype or shape.
            RuntimeFailure: The runtime failed.
        """
        ...

    def close(self) -> None:
        """Give back what the runtime holds; the session is not used after."""
        ...


class Runtime(Protocol):
    """Something that runs models."""

    @property
    def name(self) -> str:
        """The name by which the command line knows it."""
        ...

    @property
    def version(self) -> str:
        """The version of the library behind it."""
        ...

    def load(self, model: Model, options: LoadOptions) -> Session:
        """Load a model file.

        Raises:
            MissingExtraError: The library behind it is not installed.
            ModelError: The file cannot be read or is not a model.
            RuntimeFailure: The runtime cannot run this model.
        """
        ...

    def profile(
        self, model: Model, inputs: Tensors, options: LoadOptions, *, repeats: int
    ) -> Profile:
        """Measure each operator's median time over a number of inferences.

        Raises:
            The errors of `load` and of `Session.run`.
        """
        ...


GraphT = TypeVar("GraphT")
ContextT_contra = TypeVar("ContextT_contra", contravariant=True)


class Step(Protocol[GraphT, ContextT_contra]):
    """One step of a recipe: a graph in, another out; writing is the caller's."""

    def apply(self, graph: GraphT, context: ContextT_contra) -> GraphT:
        """Return a changed copy; the graph given is left as it was."""
        ...
