"""Leave out of a net what does nothing: reshapes of reshapes, and what nobody reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from skerry.adapt.tflite.net import Net, Operator


def tidied(net: Net) -> Net:
    """Return a net that computes the same with no more operators than it needs.

    A RESHAPE reads what the reshapes before it read, and goes where that has the shape
    already.
    """
    return only_used(replace(net, operators=tuple(_plain_reshapes(net))))


def only_used(net: Net) -> Net:
    """Return a net of those operators and tensors alone that its outputs need."""
    needed = set(net.outputs)
    kept: list[Operator] = []
    for operator in reversed(net.operators):
        if needed.intersection(operator.outputs):
            needed.update(operator.inputs)
            kept.append(operator)
    used = needed.union(net.inputs, *(operator.outputs for operator in kept))
    order = sorted(index for index in used if index >= 0)
    place = {index: at for at, index in enumerate(order)}

    def moved(indices: Sequence[int]) -> tuple[int, ...]:
        return tuple(place.get(index, index) for index in indices)

    return Net(
        tensors=tuple(net.tensors[index] for index in order),
        operators=tuple(
            replace(one, inputs=moved(one.inputs), outputs=moved(one.outputs))
            for one in reversed(kept)
        ),
        inputs=moved(net.inputs),
        outputs=moved(net.outputs),
    )


def _plain_reshapes(net: Net) -> list[Operator]:
    kept: list[Operator] = []
    instead: dict[int, int] = {}
    sources: dict[int, int] = {}
    for operator in net.operators:
        inputs = tuple(instead.get(index, index) for index in operator.inputs)
        if operator.code == "RESHAPE":
            (made,) = operator.outputs
            source = sources.get(inputs[0], inputs[0])
            is_same = net.tensors[source].shape == net.tensors[made].shape
            if is_same and made not in net.outputs:
                instead[made] = source
                continue
            inputs, sources[made] = (source, *inputs[1:]), source
        kept.append(replace(operator, inputs=inputs))
    return kept
