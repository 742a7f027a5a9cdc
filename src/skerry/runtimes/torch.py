"""The only door to torch, and a torch module as a session.

The rest of Skerry writes `from skerry.runtimes.torch import Tensor, nn, torch`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.core.errors import MissingExtraError, RuntimeFailure
from skerry.core.model import TensorSpec
from skerry.core.seams import Array, Tensors
from skerry.runtimes._checks import check_inputs
from skerry.runtimes._reasons import plain_reason

try:
    import torch
    from torch import Tensor, nn
    from torch.export import ExportedProgram
    from torch.nn import functional
    from torch.optim import Optimizer
    from torch.overrides import TorchFunctionMode
except ImportError as error:
    raise MissingExtraError("torch", extra="train") from error

__all__ = [
    "ExportedProgram",
    "Optimizer",
    "Tensor",
    "TorchFunctionMode",
    "TorchSession",
    "functional",
    "nn",
    "output_tensors",
    "torch",
]


def output_tensors(result: Any) -> tuple[Tensor, ...]:
    """The tensors that a module returned, in order.

    Args:
        result: A tensor, a sequence of tensors, or a mapping whose values they are.

    Raises:
        RuntimeFailure: It is none of these.
    """
    if isinstance(result, Tensor):
        return (result,)
    if isinstance(result, Mapping):
        result = tuple(result.values())
    if isinstance(result, Sequence) and all(isinstance(one, Tensor) for one in result):
        return tuple(result)
    raise RuntimeFailure(
        f"the module returned {type(result).__name__}, expected tensors",
        hint="Return a tensor, a tuple of tensors, or a dict of tensors.",
    )


class TorchSession:
    """A torch module that runs as a loaded model does, where its parameters lie.

    Args:
        module: The module; it is put into eval mode, and stays so.
        inputs: What the module takes, in the order of its arguments.
        outputs: What it returns, in order.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        self._module = module.eval()
        self._inputs = inputs
        self._outputs = outputs
        first = next(iter((*module.parameters(), *module.buffers())), None)
        self._device = torch.device("cpu") if first is None else first.device

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The module's inputs, in order."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The module's outputs, in order."""
        return self._outputs

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run one inference.

        Raises:
            DataError: An input is missing, unknown, or of another dtype or shape.
            RuntimeFailure: The module failed, or returned what the signature does not
                say.
        """
        check_inputs(inputs, self._inputs)
        if self._module.training:
            self._module.eval()
        # A tensor made of a numpy array shares its memory, which may be read-only.
        given = [
            torch.tensor(inputs[spec.name], device=self._device)
            for spec in self._inputs
        ]
        try:
            with torch.inference_mode():
                results = output_tensors(self._module(*given))
                arrays = [result.cpu().numpy() for result in results]
        except RuntimeFailure:
            raise
        except Exception as error:
            reason = plain_reason(str(error)) or type(error).__name__
            raise RuntimeFailure(
                f"the {type(self._module).__name__} failed: {reason}",
                hint="Run the module itself on the same inputs to see where.",
            ) from error
        if len(arrays) != len(self._outputs):
            raise RuntimeFailure(
                f"the module returned {len(arrays)} tensors, expected "
                f"{len(self._outputs)}",
                hint="Name each output of the module, in order.",
            )
        return {
            spec.name: array for spec, array in zip(self._outputs, arrays, strict=True)
        }

    def close(self) -> None:
        """Hold on to nothing: the module is the caller's."""
