"""Give a graph another input resolution."""

from __future__ import annotations

from collections.abc import Mapping

from skerry.core.errors import ModelError, UsageError
from skerry.core.model import TensorSpec
from skerry.core.seams import Array
from skerry.graph import _onnx
from skerry.graph._onnx import Node, make_initializer, make_node
from skerry.graph.edit import constants_to_initializers, name_all_nodes, upgrade_opset
from skerry.graph.model_graph import Graph
from skerry.graph.resolution.axes import Axes, axis_of
from skerry.graph.resolution.follow import Followed, follow
from skerry.graph.resolution.grids import Grids, Sides
from skerry.graph.resolution.lengths import scaled_lengths
from skerry.graph.shapes import infer_shapes

_OPSET = 13
"""From here on what says shapes is an operand, not an attribute."""

_CHANNELS = (1, 3, 4)


def find_picture(inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, int]:
    """Find the input that takes a picture, and which axis counts its rows.

    Raises:
        ModelError: There is none, or more than one.
    """
    found = []
    for spec in inputs:
        if len(spec.shape) != 4:
            continue
        if spec.shape[1] in _CHANNELS:
            found.append((spec, 2))
        elif spec.shape[3] in _CHANNELS:
            found.append((spec, 1))
    if len(found) != 1:
        shapes = ", ".join(map(str, inputs))
        raise ModelError(
            f"the model takes {len(found)} pictures, expected one: {shapes}",
            hint="A picture is N × C × H × W or N × H × W × C, of 1, 3 or 4 channels.",
        )
    return found[0]


def change_resolution(graph: Graph, height: int, width: int) -> Graph:
    """Return a copy of a graph that takes pictures of another size.

    Sizes in Reshape, Expand, Resize, Slice and Split follow, pools over the whole map
    stay such, grids and anchors are drawn anew (`skerry.graph.resolution.grids`). The
    batch is one; weights stay as they are.

    Args:
        graph: With one input that is a picture; it is left as it was.
        height: Rows of the picture.
        width: Columns of the picture.

    Raises:
        ModelError: It cannot be told how something in it depends on the resolution.
        UsageError: The height or width is not positive.
    """
    if height < 1 or width < 1:
        raise UsageError(
            f"the resolution is {height} × {width}, expected pixels",
            hint="Give sides that the model's strides divide, such as 320.",
        )
    ready = upgrade_opset(constants_to_initializers(graph), _OPSET)
    ready = name_all_nodes(constants_to_initializers(ready))
    picture, rows = find_picture(ready.inputs)
    new = (height, width)
    old = _sides(picture.shape[rows : rows + 2], new)
    inputs = {
        value: _input_axes(spec, rows if spec == picture else None, old, new)
        for value, spec in zip(ready.input_values, ready.inputs, strict=True)
    }
    followed = follow(ready, inputs)
    _check_outputs(ready, followed)
    made = Grids(old, new).remake(list(followed.cells.values()))
    changes = followed.operands | dict(zip(followed.cells, made, strict=True))
    changes |= scaled_lengths(ready, followed, old, new)
    _write(ready, followed, changes)
    return infer_shapes(ready)


def _sides(shape: tuple[int | str | None, ...], new: Sides) -> Sides:
    """Rows and columns before; a side that was open is as it will be."""
    sides = [
        size if isinstance(size, int) else wish
        for size, wish in zip(shape, new, strict=True)
    ]
    return sides[0], sides[1]


def _input_axes(spec: TensorSpec, rows: int | None, old: Sides, new: Sides) -> Axes:
    sizes = [size if isinstance(size, int) else 1 for size in spec.shape]
    axes = [axis_of(size, size) for size in sizes]
    if rows is not None:
        axes[rows] = axis_of(old[0], new[0], 0)
        axes[rows + 1] = axis_of(old[1], new[1], 1)
    return tuple(axes)


def _check_outputs(graph: Graph, followed: Followed) -> None:
    """Refuse to make a map of what was one answer."""
    for value in graph.output_values:
        axes = followed.known[value].axes
        if any(axis.old == 1 and axis.new != 1 for axis in axes):
            shape = [axis.new for axis in axes]
            raise ModelError(
                f"the output {value.name!r} of {graph.name} would have the shape "
                f"{shape}: its one answer comes from layers that fit one resolution",
                hint="Give a model that pools its map before its last layers.",
            )


def _write(
    graph: Graph, followed: Followed, changes: Mapping[tuple[Node, int], Array]
) -> None:
    """Put what was found into the graph, in place."""
    for (node, index), array in changes.items():
        old = node.inputs[index]
        name = graph.unique_name(f"{old.name if old else node.name}.resized")
        made = graph.add_initializer(make_initializer(array, name))
        node.replace_input_with(index, made)
    for node, attributes in followed.attributes.items():
        node.attributes.update(make_node(node.op_type, [], attributes).attributes)
    for value, known in followed.known.items():
        if not known.is_constant:
            _onnx.set_dims(value, [axis.new for axis in known.axes])
    _onnx.remove_unused(graph.ir)
