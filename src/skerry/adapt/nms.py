"""Move the suppression of overlapping boxes into the model's graph.

What a detection task does in Python after the model, a head and `nms`, becomes nodes
of the ONNX standard: the arithmetic of the head, NonMaxSuppression (opset 11), TopK.
The new model gives the finished boxes, a few numbers in place of all candidates, and
its task ends with `selected`. The boxes are the same up to the rounding of float32,
and up to the order of those that are equally sure.

    graph, task = nms_in_graph(read_graph(path), load_task(task_path))
    write_graph(graph, path.with_name("detector-nms.onnx"))
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from skerry.core.errors import ModelError, UsageError
from skerry.core.names import did_you_mean
from skerry.core.seams import Array
from skerry.graph import (
    Graph,
    Value,
    dtype_code,
    make_initializer,
    make_node,
    make_value,
    remove_dead,
    upgrade_opset,
)
from skerry.tasks.heads import (
    MOST_CANDIDATES,
    BoxesScores,
    Centernet,
    Fastestdet,
    Nms,
    Selected,
    Yolox,
)
from skerry.tasks.task import Task

OPSET = 13
"""The lowest opset in which the nodes are written: Squeeze takes its axes as input."""

_AXES_ARE_INPUTS = 18
"""From this opset on ReduceMax takes its axes as an input."""

BOXES, SCORES, CLASSES = "selected_boxes", "selected_scores", "selected_classes"
"""The outputs of the new model, unless it has such names already."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Candidates:
    """Boxes that may hold an object, as values of the graph.

    Attributes:
        corners: [n, 4].
        scores: [n, classes].
        count: n; 0 where the graph does not say it.
        classes: How many there are.
    """

    corners: Value
    scores: Value
    count: int
    classes: int


def nms_in_graph(graph: Graph, task: Task) -> tuple[Graph, Task]:
    """Make a model that gives finished boxes, and the task that reads them.

    Args:
        graph: A detector's graph with a batch of 1; left as it was.
        task: Its task: a head, then `nms`.

    Returns:
        A graph with the outputs `selected_boxes`, float32 [1, k, 4] (x_min, y_min,
        x_max, y_max in pixels of the input, the surest first), `selected_scores`,
        float32 [1, k], and `selected_classes`, int64 [1, k]; and the task with
        `selected` in place of its post steps.

    Raises:
        UsageError: The task does not end with a head and `nms`.
        ModelError: The graph lacks an output that the head reads, does not say the
            sizes that it needs, or its opset cannot be raised to 13.
    """
    head, nms = task.post[0], task.post[-1]
    if not isinstance(nms, Nms):
        raise UsageError(
            f"the task ends with {type(nms).__name__}, expected a head and nms",
            hint="Only a detection task has boxes to suppress.",
        )
    net = _Net(upgrade_opset(graph, OPSET))
    match head:
        case BoxesScores():
            found = _read_boxes_scores(net, head)
        case Yolox():
            found = _read_yolox(net, head)
        case Fastestdet():
            found = _read_fastestdet(net, head)
        case Centernet():
            found = _read_centernet(net, head)
        case _:
            raise UsageError(
                f"the head {type(head).__name__} has no form as a graph",
                hint="Use boxes_scores, yolox, fastestdet or centernet.",
            )
    changed, selected = _select(net, found, nms)
    return changed, replace(task, post=(selected,))


class _Net:
    """A graph under construction: each call adds a node and gives its result."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._outputs = {value.name or "": value for value in graph.output_values}

    def __call__(
        self, op_type: str, *inputs: Value | Array | None, **attributes: int
    ) -> Value:
        return self.split(op_type, *inputs, **attributes)[0]

    def split(
        self,
        op_type: str,
        *inputs: Value | Array | None,
        outputs: int = 1,
        **attributes: int,
    ) -> tuple[Value, ...]:
        """Add a node of several results."""
        values = [
            self._constant(one) if isinstance(one, np.ndarray) else one
            for one in inputs
        ]
        names = [self.graph.unique_name(f"nms.{op_type}") for _ in range(outputs)]
        node = make_node(op_type, values, attributes, outputs=names, name=names[0])
        self.graph.add_node(node)
        return tuple(node.outputs)

    def reduce_max(self, rows: Value) -> Value:
        """The largest number of each row, [n]."""
        if self.graph.opset >= _AXES_ARE_INPUTS:
            return self("ReduceMax", rows, _ints(1), keepdims=0)
        name = self.graph.unique_name("nms.ReduceMax")
        node = make_node(
            "ReduceMax", [rows], {"axes": [1], "keepdims": 0}, outputs=[name], name=name
        )
        self.graph.add_node(node)
        return node.outputs[0]

    def columns(self, rows: Value, start: int, end: int) -> Value:
        """Columns of a table, [n, end - start]."""
        return self("Slice", rows, _ints(start), _ints(end), _ints(1))

    def sample(self, name: str, place: int, rank: int) -> tuple[Value, tuple[int, ...]]:
        """An output of the old model without its batch axis, and its known sizes.

        Args:
            name: The output's; empty takes the one at `place`.
            place: Where it stands among the outputs.
            rank: How many axes it has beside the batch; a size not known is 0.
        """
        names = [*self._outputs, "", "", ""]
        chosen = name or names[place]
        if chosen not in self._outputs:
            raise ModelError(
                f"{self.graph.name} has no output {chosen!r}, which the task reads",
                hint=did_you_mean(chosen, self._outputs),
            )
        sizes = self.sizes_of(chosen)
        if len(sizes) != rank + 1 or (isinstance(sizes[0], int) and sizes[0] != 1):
            raise ModelError(
                f"the output {chosen!r} is {sizes}, expected a batch of 1 and {rank} "
                "more axes",
                hint="Export the model with a batch of 1.",
            )
        known = tuple(size if isinstance(size, int) else 0 for size in sizes[1:])
        value = self("Squeeze", self._outputs[chosen], _ints(0))
        return self("Cast", value, to=dtype_code("float32")), known

    def names(self) -> list[str]:
        """The old model's outputs."""
        return list(self._outputs)

    def sizes_of(self, name: str) -> tuple[int | str | None, ...]:
        """The sizes of one of the old model's outputs."""
        return next(one.shape for one in self.graph.outputs if one.name == name)

    def finish(
        self, boxes: Value, scores: Value, classes: Value
    ) -> tuple[Graph, Selected]:
        """Make three values, a batch axis of 1 in front, the only outputs."""
        names = [self.graph.unique_name(name) for name in (BOXES, SCORES, CLASSES)]
        sizes: tuple[tuple[int | str, ...], ...] = ((1, "k", 4), (1, "k"), (1, "k"))
        dtypes = ("float32", "float32", "int64")
        made = [
            make_value(name, dtype, size)
            for name, dtype, size in zip(names, dtypes, sizes, strict=True)
        ]
        axes = self._constant(_ints(0))
        for value, output in zip((boxes, scores, classes), made, strict=True):
            node = make_node(
                "Unsqueeze", [value, axes], outputs=[output], name=output.name
            )
            self.graph.add_node(node)
        outputs = self.graph.ir.graph.outputs
        outputs.clear()
        outputs.extend(made)
        return remove_dead(self.graph), Selected(
            boxes=names[0], scores=names[1], classes=names[2]
        )

    def _constant(self, array: Array) -> Value:
        name = self.graph.unique_name("nms.constant")
        return self.graph.add_initializer(make_initializer(array, name))


def _read_boxes_scores(net: _Net, head: BoxesScores) -> _Candidates:
    fours = [name for name in net.names() if net.sizes_of(name)[-1:] == (4,)]
    boxes_name = head.boxes or next(iter(fours), "")
    others = [name for name in net.names() if name != boxes_name]
    boxes, _ = net.sample(boxes_name, 0, 2)
    scores, sizes = net.sample(head.scores or next(iter(others), ""), 1, 2)
    (count,), (classes,) = sizes[:1], _known(net, sizes[1:])
    if head.softmax:
        scores = net("Softmax", scores, axis=1)
    if head.background >= 0:
        kept = np.delete(np.arange(classes), head.background % classes)
        scores = net("Gather", scores, kept.astype(np.int64), axis=1)
        classes = len(kept)
    if head.order == "yxyx":
        boxes = net("Gather", boxes, _ints(1, 0, 3, 2), axis=1)
    elif head.order == "cxcywh":
        boxes = _around(net, net.columns(boxes, 0, 2), net.columns(boxes, 2, 4))
    if (head.width, head.height) != (1, 1):
        boxes = net("Mul", boxes, _floats([head.width, head.height] * 2))
    return _Candidates(corners=boxes, scores=scores, count=count, classes=classes)


def _read_yolox(net: _Net, head: Yolox) -> _Candidates:
    rows, (cells, width) = net.sample(head.output, 0, 2)
    grids = [
        _grid(head.height // stride, head.width // stride) for stride in head.strides
    ]
    counts = [len(grid) for grid in grids]
    if cells not in (0, sum(counts)) or width < 6:
        raise ModelError(
            f"{net.graph.name} gives {cells} rows of {width}, a yolox head of "
            f"{head.height} × {head.width} has {sum(counts)}",
            hint="Give the input's height and width, and the strides.",
        )
    strides = _floats(np.repeat(head.strides, counts)[:, None])
    middle = net("Add", net.columns(rows, 0, 2), _floats(np.concatenate(grids)))
    sides = net("Mul", _exp(net, net.columns(rows, 2, 4)), strides)
    corners = _around(net, net("Mul", middle, strides), sides)
    scores = net("Mul", net.columns(rows, 4, 5), net.columns(rows, 5, width))
    return _Candidates(
        corners=corners, scores=scores, count=sum(counts), classes=width - 5
    )


def _read_fastestdet(net: _Net, head: Fastestdet) -> _Candidates:
    planes, sizes = net.sample(head.output, 0, 3)
    depth, rows, columns = _known(net, sizes)
    flat = _flatten(net, planes, depth)
    cells = _floats([columns, rows])
    input_sides = _floats([head.width, head.height])
    moved = net("Tanh", net.columns(flat, 1, 3))
    middle = net("Add", moved, _floats(_grid(rows, columns)))
    middle = net("Mul", net("Div", middle, cells), input_sides)
    sides = net("Mul", net("Sigmoid", net.columns(flat, 3, 5)), input_sides)
    there = net("Pow", net("Relu", net.columns(flat, 0, 1)), _float(0.6))
    kind = net("Pow", net("Relu", net.columns(flat, 5, depth)), _float(0.4))
    return _Candidates(
        corners=_around(net, middle, sides),
        scores=net("Mul", there, kind),
        count=rows * columns,
        classes=depth - 5,
    )


def _read_centernet(net: _Net, head: Centernet) -> _Candidates:
    heat, sizes = net.sample(head.heatmap, 0, 3)
    depth, rows, columns = _known(net, sizes)
    # Planes have rows first, boxes x first.
    scale, shift = (
        net(
            "Gather",
            _flatten(net, net.sample(name, place, 3)[0], 2),
            _ints(1, 0),
            axis=1,
        )
        for name, place in ((head.scale, 1), (head.offset, 2))
    )
    stride = _float(head.stride)
    middle = net("Add", shift, _floats(_grid(rows, columns) + 0.5))
    sides = net("Mul", _exp(net, scale), stride)
    corners = _around(net, net("Mul", middle, stride), sides)
    return _Candidates(
        corners=corners,
        scores=_flatten(net, heat, depth),
        count=rows * columns,
        classes=depth,
    )


def _select(net: _Net, found: _Candidates, nms: Nms) -> tuple[Graph, Selected]:
    """Suppress, and keep the surest."""
    limit = _just_below(nms.min_score)
    corners, scores = _only_finite(net, *_only_promising(net, found, limit))
    most = found.count * found.classes
    if nms.classes == "best":
        best = net("ArgMax", scores, axis=1, keepdims=1)
        is_best = net("Equal", np.arange(found.classes)[None], best)
        scores, most = net("Where", is_best, scores, _float(-1)), found.count
    if not 0 < most <= MOST_CANDIDATES:
        scores = _only_surest(net, scores)
    by_class = net("Transpose", scores)
    chosen = net(
        "NonMaxSuppression",
        net("Unsqueeze", corners, _ints(0)),
        net("Unsqueeze", by_class, _ints(0)),
        _ints(nms.most),
        _floats([nms.iou]),
        _floats([limit]),
    )
    pairs = net.columns(chosen, 1, 3)  # the class and the box of each
    sure = net("GatherND", by_class, pairs)
    count = net("Min", net("Shape", sure), _ints(nms.most))
    top, order = net.split("TopK", sure, count, outputs=2)
    ranked = net("Gather", pairs, order)
    kinds = net("Squeeze", net.columns(ranked, 0, 1), _ints(1))
    boxes = net("Gather", corners, net("Squeeze", net.columns(ranked, 1, 2), _ints(1)))
    return net.finish(boxes, top, kinds)


def _only_promising(net: _Net, found: _Candidates, limit: float) -> tuple[Value, Value]:
    """Pass over boxes without a score above the limit: most of them, so do it first.

    Scores that are no number are looked at later. A box that no score speaks for is
    put behind, so that there is always one.
    """
    axes = _ints(1)
    top = net.reduce_max(found.scores)
    is_low = net("LessOrEqual", top, _float(limit))
    total = net("Abs", net("ReduceSum", found.scores, axes, keepdims=0))
    is_number = net("Less", total, _float(np.inf))
    is_kept = net("Not", net("And", is_low, is_number))
    kept = net("Squeeze", net("NonZero", is_kept), _ints(0))
    corners, scores = (
        net("Gather", one, kept) for one in (found.corners, found.scores)
    )
    no_box, no_score = np.zeros((1, 4)), np.full((1, found.classes), -1)
    return (
        net("Concat", corners, _floats(no_box), axis=0),
        net("Concat", scores, _floats(no_score), axis=0),
    )


def _only_finite(net: _Net, corners: Value, scores: Value) -> tuple[Value, Value]:
    """Give what is no number the score -1, and its box a place."""
    nothing = net("ReduceSum", net("Sub", corners, corners), _ints(1), keepdims=1)
    is_box = net("Equal", nothing, _float(0))  # infinity less infinity is no number
    is_number = net("And", net("Less", net("Abs", scores), _float(np.inf)), is_box)
    return (
        net("Where", is_box, corners, _float(0)),
        net("Where", is_number, scores, _float(-1)),
    )


def _only_surest(net: _Net, scores: Value) -> Value:
    """Pass over all but the `MOST_CANDIDATES` surest, as `nms` does."""
    flat = net("Reshape", scores, _ints(-1))
    count = net("Min", net("Shape", flat), _ints(MOST_CANDIDATES))
    top, _ = net.split("TopK", flat, count, outputs=2)
    last = net("Gather", top, _ints(-1))
    return net("Where", net("Less", scores, last), _float(-1), scores)


def _just_below(score: float) -> float:
    """The largest float32 below a score: what is above it is the score or more."""
    near = np.float32(score)
    return float(near if near < score else np.nextafter(near, np.float32(-1)))


def _known(net: _Net, sizes: tuple[int, ...]) -> tuple[int, ...]:
    if not all(sizes):
        raise ModelError(
            f"{net.graph.name} does not say the sizes of its outputs",
            hint="Fix its inputs with skerry.graph.with_static_inputs.",
        )
    return sizes


def _flatten(net: _Net, planes: Value, depth: int) -> Value:
    """Planes [depth, rows, columns] as a table [rows · columns, depth]."""
    return net("Transpose", net("Reshape", planes, _ints(depth, -1)))


def _around(net: _Net, middle: Value, sides: Value) -> Value:
    half = net("Mul", sides, _float(0.5))
    return net("Concat", net("Sub", middle, half), net("Add", middle, half), axis=1)


def _exp(net: _Net, logarithms: Value) -> Value:
    return net("Exp", net("Clip", logarithms, _float(-50), _float(50)))


def _grid(rows: int, columns: int) -> Array:
    """The x and y of each cell, row by row, [rows · columns, 2]."""
    y, x = np.mgrid[:rows, :columns]
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def _ints(*numbers: int) -> Array:
    return np.array(numbers, dtype=np.int64)


def _float(number: float) -> Array:
    return np.array(number, dtype=np.float32)


def _floats(numbers: ArrayLike) -> Array:
    return np.asarray(numbers, dtype=np.float32)
