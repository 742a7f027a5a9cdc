"""Lets older producers send, and older consumers read, what they always did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from skerry.core.errors import DataError
from skerry.core.model import TensorSpec
from skerry.core.release import Manifest, ReleaseModel
from skerry.core.schemas import Change, SchemaAdapter, Schemas
from skerry.core.seams import Array, Tensors

_HEAVY_BYTES = 1 << 18
"""From here on tensors are changed on a thread, so that others are not held up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Goes between the schemas that are spoken here and those of a release.

    Attributes:
        inputs: What producers send.
        outputs: What consumers read.
        own_inputs: What the model takes.
        to_model: The adapters from what producers send to the model, in this order.
        from_model: Those from what consumers read to the model, to be gone back.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    own_inputs: tuple[TensorSpec, ...]
    to_model: tuple[SchemaAdapter, ...]
    from_model: tuple[SchemaAdapter, ...]

    @classmethod
    def between(
        cls, spoken: Schemas, manifest: Manifest, model: ReleaseModel
    ) -> Adapter | None:
        """Make what goes between what is spoken and a model; None: that is alike.

        Args:
            spoken: What producers send and what consumers read.
            manifest: The release's.
            model: The model of it that is for this device.

        Raises:
            DataError: The release has no way between them.
        """
        ways = manifest.ways(spoken)
        if ways is None:
            raise DataError(
                f"{manifest.id} speaks the schemas {manifest.schemas} and has no "
                f"adapter to {spoken}",
                hint="Release it with --schemas, or upgrade producers and consumers.",
            )
        if spoken == manifest.schemas:
            return None
        to_model, from_model = ways
        return cls(
            inputs=to_model[0].tensors if to_model else model.inputs,
            outputs=from_model[0].tensors if from_model else model.outputs,
            own_inputs=model.inputs,
            to_model=to_model,
            from_model=from_model,
        )

    async def take(self, inputs: Tensors) -> Tensors:
        """Make what the model takes of what a producer sent.

        Raises:
            DataError: An input is missing.
        """
        if not self.to_model:
            return inputs
        return await _in_turn(self.make_inputs, inputs)

    async def give(self, outputs: Tensors) -> dict[str, Array]:
        """Make what consumers read of what the model gave."""
        if not self.from_model:
            return dict(outputs)
        return await _in_turn(self.make_outputs, outputs)

    def make_inputs(self, inputs: Tensors) -> dict[str, Array]:
        """Do what `take` does, at once."""
        made = dict(inputs)
        nearer = [*(one.tensors for one in self.to_model[1:]), self.own_inputs]
        for adapter, specs in zip(self.to_model, nearer, strict=True):
            made = _make(specs, made, adapter.changes)
        return made

    def make_outputs(self, outputs: Tensors) -> dict[str, Array]:
        """Do what `give` does, at once."""
        made = dict(outputs)
        for adapter in reversed(self.from_model):
            made = _make(adapter.tensors, made, adapter.changes)
        return made


async def _in_turn(
    make: Callable[[Tensors], dict[str, Array]], tensors: Tensors
) -> dict[str, Array]:
    if sum(array.nbytes for array in tensors.values()) >= _HEAVY_BYTES:
        return await asyncio.to_thread(make, tensors)
    return make(tensors)


def _make(
    specs: Iterable[TensorSpec], given: Mapping[str, Array], changes: Sequence[Change]
) -> dict[str, Array]:
    """Make the tensors of one schema of those of the schema beside it."""
    known = {one.tensor: one for one in changes}
    sizes: dict[str, int] = {}
    made: dict[str, Array] = {}
    missing: list[tuple[TensorSpec, float]] = []
    for spec in specs:
        change = known.get(spec.name) or Change(tensor=spec.name)
        source = given.get(change.source or spec.name)
        if source is not None:
            made[spec.name] = _change(source, spec, change)
            pairs = zip(spec.shape, source.shape, strict=False)
            sizes |= {axis: size for axis, size in pairs if isinstance(axis, str)}
        elif change.default is not None:
            missing.append((spec, change.default))
        else:
            raise DataError(
                f"the input {change.source or spec.name!r} is missing",
                hint="Send all tensors of the schema.",
            )
    for spec, value in missing:
        # A dimension that has a name is as long as where the name stands elsewhere.
        shape = [
            axis if isinstance(axis, int) else sizes.get(str(axis), 1)
            for axis in spec.shape
        ]
        made[spec.name] = np.full(shape, value, np.dtype(spec.dtype))
    return made


def _change(source: Array, spec: TensorSpec, change: Change) -> Array:
    array = source
    if change.resize and len(spec.shape) == array.ndim:
        for axis, size in enumerate(spec.shape):
            if isinstance(size, int) and size != array.shape[axis]:
                array = _resize(array, axis, size)
    if (change.factor, change.offset) != (1.0, 0.0):
        array = array.astype(np.float64) * change.factor + change.offset
    if array.dtype == spec.dtype or array.dtype.kind not in "fiub":
        return array
    dtype = np.dtype(spec.dtype)
    if dtype.kind in "iu" and array.dtype.kind == "f":
        limits = np.iinfo(dtype)
        array = np.clip(np.rint(array), limits.min, limits.max)
    return array.astype(dtype)


def _resize(array: Array, axis: int, size: int) -> Array:
    """Interpolate one axis linearly, at the centres of the new steps.

    As `Resize` of ONNX does with `half_pixel` and `linear`, its edges repeated.
    """
    old = array.shape[axis]
    places = np.clip((np.arange(size) + 0.5) * (old / size) - 0.5, 0, old - 1)
    low = np.floor(places).astype(np.intp)
    high = np.minimum(low + 1, old - 1)
    shape = [1] * array.ndim
    shape[axis] = size
    part = (places - low).reshape(shape)
    before, after = np.take(array, low, axis), np.take(array, high, axis)
    made: Array = before * (1 - part) + after * part
    return made.astype(array.dtype) if array.dtype.kind == "f" else made
