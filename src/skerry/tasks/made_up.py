"""Inputs made up from a signature, where a model is only to be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from skerry.core.errors import DataError, UsageError
from skerry.core.model import TensorSpec
from skerry.core.names import did_you_mean
from skerry.core.seams import Array

OPEN_SIZE = 64
"""What an axis beyond the first is where the signature leaves it open: a size that nets
which halve their input several times can halve as often."""

LARGEST_INPUT_BYTES = 1 << 28


def made_up_inputs(
    inputs: Sequence[TensorSpec],
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
) -> dict[str, Array]:
    """Make an array for each input: floats from 0 to 1, all else zeros.

    Args:
        inputs: The signature.
        shapes: Shapes of inputs, by name; a first axis that is left open is 1 without
            one, any other `OPEN_SIZE`.
        seed: What the numbers are drawn by.

    Raises:
        UsageError: A shape is for no input, or does not fit it.
        DataError: An input holds what cannot be made up, or too much.
    """
    given = dict(shapes or {})
    known = [spec.name for spec in inputs]
    for name in given:
        if name not in known:
            raise UsageError(
                f"the model has no input {name!r}", hint=did_you_mean(name, known)
            )
    chance = np.random.default_rng(seed)
    return {
        spec.name: _make(spec, given.get(spec.name) or _sizes(spec), chance)
        for spec in inputs
    }


def _sizes(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(
        size if isinstance(size, int) else OPEN_SIZE if axis else 1
        for axis, size in enumerate(spec.shape)
    )


def _make(
    spec: TensorSpec, sizes: tuple[int, ...], chance: np.random.Generator
) -> Array:
    if not spec.accepts(sizes):
        raise UsageError(
            f"the input {spec} cannot have the shape {sizes}",
            hint=f"Give another: --shape {spec.name}=1x3x224x224",
        )
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:
        dtype = np.dtype(object)
    count = int(np.prod([1, *sizes], dtype=object))
    if dtype.kind not in "biuf" or count * dtype.itemsize > LARGEST_INPUT_BYTES:
        raise DataError(
            f"numbers for the input {spec} cannot be made up",
            hint="Give samples of your own.",
        )
    if dtype.kind == "f":
        return chance.random(sizes).astype(dtype)
    return np.zeros(sizes, dtype)
