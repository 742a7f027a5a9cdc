"""What every runtime refuses before the library behind it sees it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from skerry.core.errors import DataError, ModelError, RuntimeFailure, UsageError
from skerry.core.model import Model, ModelFormat, TensorSpec
from skerry.core.names import did_you_mean
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.runtimes._reasons import plain_reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a runtime can be asked for.

    Attributes:
        runtime: Its name.
        formats: The formats that it takes.
        has_providers: Whether it has execution providers to choose from.
        has_libraries: Whether it takes libraries of operators.
    """

    runtime: str
    formats: frozenset[ModelFormat]
    has_providers: bool = False
    has_libraries: bool = False


ANYTHING = Abilities(
    runtime="null",
    formats=frozenset(ModelFormat),
    has_providers=True,
    has_libraries=True,
)
"""What a runtime without a library can be asked for."""


def check_load(model: Model, options: LoadOptions, able: Abilities) -> None:
    """Refuse a model whose file is not there, and options that make no sense.

    Raises:
        UsageError: The file is missing, or a folder; the threads are fewer than one; a
            library of operators is missing.
        ModelError: The file is empty.
        RuntimeFailure: The runtime does not take the format, or what it is asked for.
    """
    if options.threads < 1:
        raise UsageError(
            f"got {options.threads} threads, expected at least 1",
            hint="Ask for as many threads as the model may use.",
        )
    if not model.path.is_file():
        raise UsageError(
            f"the model {model.path} is not there",
            hint="Give the path of a model file.",
        )
    if not model.path.stat().st_size:
        raise ModelError(f"{model.path.name} is empty", hint="Export the model again.")
    _check_able(model, options, able)
    for library in options.libraries:
        if not library.is_file():
            raise UsageError(
                f"the library of operators {library} is not there",
                hint="Give the path of a shared library.",
            )


def check_profile(inputs: Tensors, specs: Sequence[TensorSpec], repeats: int) -> None:
    """Refuse what cannot be profiled.

    Raises:
        UsageError: The repeats are fewer than one.
        DataError: The inputs do not fit the signature.
    """
    if repeats < 1:
        raise UsageError(
            f"got {repeats} repeats, expected at least 1",
            hint="Operators are measured over a number of inferences.",
        )
    check_inputs(inputs, specs)


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
        _check_input(inputs[spec.name], spec)


def check_signature(
    model: Model, runtime: str, inputs: Collection[str], outputs: Collection[str]
) -> None:
    """Refuse a file that has changed since the model was opened.

    Args:
        model: As it was opened.
        runtime: What reads the file.
        inputs: The names of the inputs that the file has now.
        outputs: Those of its outputs.

    Raises:
        RuntimeFailure: One of the model's is not among them.
    """
    for specs, known in ((model.inputs, inputs), (model.outputs, outputs)):
        if not {spec.name for spec in specs} <= set(known):
            raise RuntimeFailure(
                f"{runtime} cannot load {model.path.name}: its inputs and outputs are "
                "not those that it was opened with",
                hint="Open the model again.",
            )


def failure(runtime: str, verb: str, model: Model, error: Exception) -> RuntimeFailure:
    """An error of our tree for what a library raised.

    Args:
        runtime: Name of the runtime.
        verb: What it could not do: `load` or `run`.
        model: The model.
        error: What it raised; its reason is kept in one plain line.
    """
    reason = plain_reason(str(error)) or type(error).__name__
    return RuntimeFailure(
        f"{runtime} cannot {verb} {model.path.name}: {reason}",
        hint="Try another runtime: skerry compare lists what runs it.",
    )


def no_model(model: Model) -> ModelError:
    """The error of a file that is not a model, or only a part of one."""
    return ModelError(
        f"{model.path.name} is no {model.format.label} model, or only a part of one",
        hint="Export the model again, or fetch the whole file.",
    )


def closed(runtime: str, model: Model) -> RuntimeFailure:
    """The error of a session that is run after it was closed."""
    return RuntimeFailure(
        f"{runtime} cannot run {model.path.name}: its session is closed",
        hint="Load the model again.",
    )


def _check_able(model: Model, options: LoadOptions, able: Abilities) -> None:
    if model.format not in able.formats:
        taken = " and ".join(sorted(each.label for each in able.formats))
        raise RuntimeFailure(
            f"{able.runtime} takes {taken} files, {model.path.name} is "
            f"{model.format.label}",
            hint="Give it the same model in that format, or take another runtime.",
        )
    if options.providers and not able.has_providers:
        raise RuntimeFailure(
            f"{able.runtime} has no execution providers, asked for "
            f"{', '.join(options.providers)[:80]}",
            hint="Load the model with onnxruntime, or leave them out.",
        )
    if options.libraries and not able.has_libraries:
        raise RuntimeFailure(
            f"{able.runtime} takes no libraries of operators, "
            f"{options.libraries[0].name} was given",
            hint="Load the model with onnxruntime, or leave them out.",
        )


@lru_cache(maxsize=64)  # numpy makes the name anew each time
def _native_name(dtype: np.dtype[Any]) -> str:
    """A dtype's name, for numpy knows no bfloat16 of its own; empty if swapped."""
    return dtype.name if dtype.isnative else ""


def _check_input(array: Array, spec: TensorSpec) -> None:
    if _native_name(array.dtype) != spec.dtype:
        raise DataError(
            f"input {spec.name!r} is {array.dtype}, expected {spec.dtype}",
            hint=f"Convert it: array.astype({spec.dtype!r}).",
        )
    if not spec.accepts(array.shape):
        raise DataError(
            f"input {spec.name!r} has shape {array.shape}, expected {spec}",
            hint="Check the layout, and that the batch axis is there.",
        )
