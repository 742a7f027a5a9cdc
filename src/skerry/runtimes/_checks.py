"""What every runtime refuses before the library behind it sees it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from skerry.core.errors import DataError, RuntimeFailure, UsageError
from skerry.core.model import Model, TensorSpec
from skerry.core.names import did_you_mean
from skerry.core.seams import Tensors

_NOISE = re.compile(
    r"(/\S+?\.(?:cc|cpp|h|hpp)(?::\d+)?\S*)|(\[ONNXRuntimeError\] : \d+ : )"
)
_LONGEST_REASON = 200


def check_file(model: Model) -> None:
    """Refuse a model whose file is not there.

    Raises:
        UsageError: It is missing, or a folder.
    """
    if not model.path.is_file():
        raise UsageError(
            f"the model {model.path} is not there",
            hint="Give the path of a model file.",
        )


def check_inputs(inputs: Tensors, specs: Sequence[TensorSpec]) -> None:
    """Refuse inputs that do not fit a model's signature.

    Raises:
        DataError: One is missing, unknown, of another dtype or of another shape.
    """
    known = {spec.name: spec for spec in specs}
    for name in inputs:
        if name not in known:
            raise DataError(
                f"the model has no input {name!r}", hint=did_you_mean(name, known)
            )
    for spec in specs:
        if spec.name not in inputs:
            raise DataError(
                f"the input {spec.name!r} is missing", hint=f"The model takes {spec}."
            )
        array = inputs[spec.name]
        if array.dtype != np.dtype(spec.dtype):
            raise DataError(
                f"input {spec.name!r} is {array.dtype}, expected {spec.dtype}",
                hint=f"Convert it: array.astype({spec.dtype!r}).",
            )
        if not spec.accepts(array.shape):
            raise DataError(
                f"input {spec.name!r} has shape {array.shape}, expected {spec}",
                hint="Check the layout, and that the batch axis is there.",
            )


def failure(runtime: str, verb: str, model: Model, error: Exception) -> RuntimeFailure:
    """An error of our tree for what a library raised.

    Args:
        runtime: Name of the runtime.
        verb: What it could not do: `load` or `run`.
        model: The model.
        error: What it raised; its first telling line is kept.
    """
    lines = [_NOISE.sub("", line).strip(" :") for line in str(error).splitlines()]
    reason = next((line for line in lines if len(line) > 3), type(error).__name__)
    return RuntimeFailure(
        f"{runtime} cannot {verb} {model.path.name}: {reason[:_LONGEST_REASON]}",
        hint="Try another runtime: skerry compare lists what runs it.",
    )


def closed(runtime: str, model: Model) -> RuntimeFailure:
    """The error of a session that is run after it was closed."""
    return RuntimeFailure(
        f"{runtime} cannot run {model.path.name}: its session is closed",
        hint="Load the model again.",
    )
