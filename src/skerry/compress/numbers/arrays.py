"""What arrays must be before they are quantized: finite floats, with channels."""

from __future__ import annotations

import numpy as np

from skerry.core.errors import DataError, UsageError
from skerry.core.seams import Array


def as_floats(values: object, what: str, *, allow_integers: bool = False) -> Array:
    """Check that values can be quantized, and give them as float32.

    Args:
        values: float16, float32 or float64.
        what: What they are, for the message of an error.
        allow_integers: Whether integers are numbers like others here: for ends of
            ranges they are; a tensor of integers is most likely quantized already.

    Raises:
        DataError: Not floats, none at all, or NaN, infinity or beyond float32.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(
            f"{what}: not an array: {error}",
            hint="Give one array at a time, each of one shape.",
        ) from error
    if array.dtype.kind not in ("fiu" if allow_integers else "f"):
        raise DataError(
            f"{what}: got dtype {array.dtype}, expected float16, float32 or float64",
            hint="Quantize real numbers; convert with `astype(numpy.float32)`.",
        )
    if not array.size:
        raise DataError(
            f"{what}: got shape {array.shape}, which is empty",
            hint="Give at least one number.",
        )
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32, copy=False)
    finite = np.isfinite(floats)
    if not finite.all():
        count = int(np.count_nonzero(~finite))
        nan = int(np.count_nonzero(np.isnan(array)))
        infinite = int(np.count_nonzero(np.isinf(array)))
        raise DataError(
            f"{what}: {count} of {array.size} numbers cannot be quantized ({nan} NaN, "
            f"{infinite} infinite, {count - nan - infinite} beyond float32)",
            hint="Find where they come from: no scale fits them.",
        )
    return floats


def by_channel(values: Array, axis: int | None) -> Array:
    """View values as one row a channel, or as one row where axis is None.

    Raises:
        UsageError: The values have no such axis.
    """
    if axis is None:
        return values.reshape(1, -1)
    check_axis(values, axis)
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


def along_axis(parameter: Array, values: Array, axis: int | None) -> Array:
    """Reshape one parameter a channel so that it broadcasts over the values."""
    if axis is None:
        return parameter
    shape = [1] * values.ndim
    shape[axis] = -1
    return parameter.reshape(shape)


def check_axis(values: Array, axis: int) -> None:
    """Refuse an axis that values do not have.

    Raises:
        UsageError: They have no such axis.
    """
    if not -values.ndim <= axis < values.ndim:
        raise UsageError(
            f"the scheme's axis is {axis}, but the values have shape {values.shape}",
            hint="Convolution weights (OIHW) have their channels on axis 0.",
        )
