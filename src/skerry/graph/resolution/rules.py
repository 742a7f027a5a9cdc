"""What each operator does to axes, and which of its constants say shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from skerry.core.seams import Array
from skerry.graph._onnx import Node, attribute
from skerry.graph.resolution import operands
from skerry.graph.resolution.axes import Axes, Axis, axis_of, regroup
from skerry.graph.resolution.known import Known, refuse

_REGROUPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_REDUCING = frozenset(
    {
        *("ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum"),
        *("ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
        *("ReduceSum", "ReduceSumSquare"),
    }
)
_SPATIAL = frozenset(
    {
        *("AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace"),
        *("GlobalAveragePool", "GlobalMaxPool", "InstanceNormalization", "LRN"),
        *("LpNormalization", "MaxPool", "Pad", "Resize", "SpaceToDepth", "Upsample"),
    }
)
POINTWISE = frozenset(
    {
        *("Abs", "Add", "And", "Cast", "Ceil", "Celu", "Clip", "Div", "Elu", "Equal"),
        *("Erf", "Exp", "Expand", "Floor", "Gelu", "Greater", "GreaterOrEqual"),
        *("HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Less", "LessOrEqual"),
        *("Log", "LogSoftmax", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg"),
        *("Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu"),
        *("Sigmoid", "Sign", "Softmax", "Softplus", "Softsign", "Sqrt", "Sub", "Sum"),
        *("Tanh", "ThresholdedRelu", "Where", "Xor", "Dropout"),
        *("QuantizeLinear", "DequantizeLinear"),
    }
)
_MATRIX = frozenset({"Gemm", "MatMul"})
_STRUCTURAL = frozenset({"Concat", "Gather", "Slice", "Split", "Transpose"})
_MADE_BY_NUMBERS = frozenset({"ConstantOfShape", "Range", "Shape", "Size"})
OPERATORS = frozenset().union(
    *(_REGROUPING, _REDUCING, _SPATIAL, POINTWISE, _MATRIX, _STRUCTURAL),
    _MADE_BY_NUMBERS,
)
"""Those that can be followed: what else may depend on the resolution is unknown."""

Reads = Sequence[Known | None]
"""What a node reads, input by input."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Asked:
    """A node, and what it reads; `old` sizes of its output number `which`."""

    node: Node
    reads: Reads
    old: Sequence[int] = ()
    which: int = 0

    @property
    def axes(self) -> Axes:
        """Of the first input."""
        first = self.reads[0] if self.reads else None
        return () if first is None else first.axes


def made_axes(
    node: Node, reads: Reads, old: Sequence[int], new: Sequence[int], which: int
) -> Axes:
    """Tell what the axes of an output are made of.

    Args:
        node: What makes it.
        reads: What the node reads.
        old: The output's sizes at the old resolution.
        new: Its sizes at the new one.
        which: The index of the output.
    """
    rule = _RULES.get(node.op_type, _aligned)
    if node.op_type in _REDUCING and not attribute(node, "keepdims", 1):
        rule = _reduced
    candidates = rule(_Asked(node=node, reads=reads, old=old, which=which))
    if len(candidates) != len(old):
        candidates = [[] for _ in old]
    return tuple(
        _choose(some, *sizes)
        for some, sizes in zip(candidates, zip(old, new, strict=True), strict=True)
    )


def _choose(candidates: Sequence[Axis], old: int, new: int) -> Axis:
    """The axis that an output's axis is, among those that it may be."""
    same = [one for one in candidates if (one.old, one.new) == (old, new)]
    follows = [one for one in same if one.follows]
    if follows or same:
        return (follows or same)[0]
    sides = [one.side for one in candidates if one.side is not None]
    # What was pooled to one number counts nothing any more.
    is_pooled = old == new == 1
    return axis_of(old, new, sides[0] if sides and not is_pooled else None)


Candidates = list[list[Axis]]
"""For each axis of an output the axes that it may be."""


def _aligned(asked: _Asked) -> Candidates:
    """Axes aligned at the right, as numpy broadcasts; maps keep theirs."""
    found: Candidates = [[] for _ in asked.old]
    for one in asked.reads if asked.node.op_type in POINTWISE else asked.reads[:1]:
        axes = () if one is None else one.axes
        for place in range(1, min(len(axes), len(asked.old)) + 1):
            found[-place].append(axes[-place])
    return found


def _regrouped(asked: _Asked) -> Candidates:
    axes = regroup(asked.axes, asked.old)
    return [[] for _ in asked.old] if axes is None else [[axis] for axis in axes]


def _transposed(asked: _Asked) -> Candidates:
    axes = asked.axes
    order = attribute(asked.node, "perm", list(reversed(range(len(axes)))))
    return [[axes[place]] for place in order]


def _concatenated(asked: _Asked) -> Candidates:
    parts = [one.axes for one in asked.reads if one is not None]
    found: Candidates = [list(some) for some in zip(*parts, strict=True)]
    place = attribute(asked.node, "axis", 0)
    joined = [axes[place] for axes in parts]
    if any(axis.follows for axis in joined):
        found[place] = [Axis(pieces=tuple(p for axis in joined for p in axis.pieces))]
    return found


def _gathered(asked: _Asked) -> Candidates:
    axes, place = asked.axes, attribute(asked.node, "axis", 0)
    place %= len(axes)
    indices = asked.reads[1].axes if asked.reads[1] is not None else ()
    return [[one] for one in (*axes[:place], *indices, *axes[place + 1 :])]


def _reduced(asked: _Asked) -> Candidates:
    axes = asked.axes
    said = attribute(asked.node, "axes", attribute(asked.node, "axis", None))
    said = _numbers(asked, 1) or said
    gone = [said] if isinstance(said, int) else said or range(len(axes))
    kept = set(range(len(axes))) - {place % len(axes) for place in gone}
    return [[axes[place]] for place in sorted(kept)]


def _multiplied(asked: _Asked) -> Candidates:
    first, second = (one.axes if one is not None else () for one in asked.reads[:2])
    row = first[-1] if attribute(asked.node, "transA", 0) else first[-2:][0]
    column = second[0] if attribute(asked.node, "transB", 0) else second[-1]
    found: Candidates = [[] for _ in asked.old]
    for axes in (first[:-2], second[:-2]):
        for place in range(1, min(len(axes), len(asked.old) - 2) + 1):
            found[-place - 2].append(axes[-place])
    if len(asked.old) > 1:
        found[-2].append(row)
        found[-1].append(column)
    return found


def _sliced(asked: _Asked) -> Candidates:
    found = [[axis] for axis in asked.axes]
    for place, start, end, step in _cuts(asked):
        part = operands.slice_bounds(found[place][0], start, end, step)
        if found[place][0].follows and part is not None:
            found[place] = [part[2]]
    return found


def _split(asked: _Asked) -> Candidates:
    found = [[axis] for axis in asked.axes]
    place = attribute(asked.node, "axis", 0)
    parts = _parts(asked)
    if parts is not None:
        found[place] = [parts[asked.which]]
    return found


_RULES: Mapping[str, Callable[[_Asked], Candidates]] = {
    **dict.fromkeys(_REGROUPING, _regrouped),
    **dict.fromkeys(_MATRIX, _multiplied),
    "Concat": _concatenated,
    "Gather": _gathered,
    "Slice": _sliced,
    "Split": _split,
    "Transpose": _transposed,
}


def cell_axes(node: Node, reads: Reads) -> dict[int, Axes]:
    """Find the constants that have an entry for each cell, and what their axes are.

    Returns:
        Axes by index of the input.
    """
    if node.op_type not in POINTWISE and node.op_type != "Concat":
        return {}
    rank = max(len(one.axes) for one in reads if one is not None)
    joined = attribute(node, "axis", 0) % rank if node.op_type == "Concat" else None
    found: dict[int, Axes] = {}
    for index, one in enumerate(reads):
        if one is None or not one.is_constant:
            continue
        axes = list(one.axes)
        for place in range(1, len(axes) + 1):
            if rank - place == joined:
                continue
            beside = (x.axes[-place] for x in reads if x and len(x.axes) >= place)
            alike = [x for x in beside if x.follows and x.old == axes[-place].old]
            axes[-place] = next(iter(alike), axes[-place])
        if any(axis.follows for axis in axes):
            found[index] = tuple(axes)
    return found


def repaired_operands(node: Node, reads: Reads) -> dict[int, Array]:
    """Find what the operands of a node that say shapes must hold.

    Args:
        node: It reads something that depends on the resolution.
        reads: What the node reads.

    Returns:
        Arrays by index of the input; equal to what is there where nothing changes.

    Raises:
        ModelError: It cannot be told how one depends on the resolution.
    """
    repair = _REPAIRS.get(node.op_type)
    return {} if repair is None else repair(_Asked(node=node, reads=reads))


def _repair_reshape(asked: _Asked) -> dict[int, Array]:
    target = _numbers(asked, 1)
    if target is None:
        raise refuse(asked.node, "is given a shape that is computed from values")
    axes = asked.axes
    if attribute(asked.node, "allowzero", 0):
        raise refuse(asked.node, "takes 0 for a size")
    sizes = [axes[i].old if one == 0 else one for i, one in enumerate(target)]
    if -1 in sizes:
        total = int(np.prod([axis.old for axis in axes]))
        rest = int(np.prod([one for one in sizes if one != -1]))
        sizes = [total // max(rest, 1) if one == -1 else one for one in sizes]
    found = operands.reshape_target(axes, target, sizes)
    if found is None:
        shapes = " to ".join(str(list(one)) for one in ((a.old for a in axes), sizes))
        raise refuse(asked.node, f"turns {shapes}: which side is which cannot be told")
    return {1: np.array(found, np.int64)}


def _repair_expand(asked: _Asked) -> dict[int, Array]:
    target = _numbers(asked, 1)
    one = asked.reads[1]
    if target is None or one is None or one.follows:
        return {}
    return {1: np.array(operands.expand_target(asked.axes, target), np.int64)}


def _repair_resize(asked: _Asked) -> dict[int, Array]:
    target = _numbers(asked, 3)
    if target is None or (asked.reads[3] is not None and asked.reads[3].follows):
        return {}
    sizes = operands.resize_target(asked.axes, target)
    if sizes is None:
        raise refuse(
            asked.node,
            f"makes a map of {target} larger by no whole factor then",
            "Choose sides that the model's strides divide, such as multiples of 32.",
        )
    return {3: np.array(sizes, np.int64)}


def _repair_slice(asked: _Asked) -> dict[int, Array]:
    cuts, axes = _cuts(asked), asked.axes
    starts, ends = [], []
    for place, start, end, step in cuts:
        part = (start, end, axes[place])
        if axes[place].follows:
            told = operands.slice_bounds(axes[place], start, end, step)
            if told is None:
                raise refuse(
                    asked.node,
                    f"takes {start} to {end} of {axes[place].old}: whether that is a "
                    "margin or a part cannot be told",
                )
            part = told
        starts.append(part[0])
        ends.append(part[1])
    return {1: np.array(starts, np.int64), 2: np.array(ends, np.int64)}


def _repair_split(asked: _Asked) -> dict[int, Array]:
    axis = asked.axes[attribute(asked.node, "axis", 0)]
    if not axis.follows or _numbers(asked, 1) is None:
        return {}
    parts = _parts(asked)
    if parts is None:
        raise refuse(asked.node, f"splits {axis.old} into parts that cannot be told")
    return {1: np.array([one.new for one in parts], np.int64)}


def _repair_gather(asked: _Asked) -> dict[int, Array]:
    axis = asked.axes[attribute(asked.node, "axis", 0)]
    indices = _numbers(asked, 1)
    if axis.follows and (indices is None or set(indices) - {0, -1}):
        raise refuse(asked.node, f"picks some of {axis.old} cells by their numbers")
    return {}


def _check_product(asked: _Asked) -> dict[int, Array]:
    """Refuse weights that read the whole map, one number a cell."""
    first, second = asked.reads[:2]
    if first is None or second is None:
        return {}
    is_gemm = asked.node.op_type == "Gemm"
    row = 0 if is_gemm and attribute(asked.node, "transA", 0) else -1
    column = -1 if is_gemm and attribute(asked.node, "transB", 0) else -2
    inner = first.axes[row], second.axes[column if len(second.axes) > 1 else 0]
    if inner[0].new != inner[1].new:
        raise refuse(
            asked.node,
            f"has weights for {inner[1].new} numbers and would read {inner[0].new}: "
            "they were learnt for one resolution",
            "Give a model that pools its map before its last layers.",
        )
    return {}


_REPAIRS: Mapping[str, Callable[[_Asked], dict[int, Array]]] = {
    "Expand": _repair_expand,
    "Gather": _repair_gather,
    "Gemm": _check_product,
    "MatMul": _check_product,
    "Reshape": _repair_reshape,
    "Resize": _repair_resize,
    "Slice": _repair_slice,
    "Split": _repair_split,
}


def _numbers(asked: _Asked, index: int) -> list[int] | None:
    """What an operand held at the old resolution."""
    one = asked.reads[index] if index < len(asked.reads) else None
    return None if one is None or one.old is None else one.old.reshape(-1).tolist()


def _cuts(asked: _Asked) -> list[tuple[int, int, int, int]]:
    """The axis, start, end and step of each cut of a Slice."""
    starts, ends = _numbers(asked, 1), _numbers(asked, 2)
    if starts is None or ends is None:
        raise refuse(asked.node, "is given bounds that are computed from values")
    places = _numbers(asked, 3) or list(range(len(starts)))
    steps = _numbers(asked, 4) or [1] * len(starts)
    rank = len(asked.axes)
    return [
        (place % rank, start, end, step)
        for place, start, end, step in zip(places, starts, ends, steps, strict=True)
    ]


def _parts(asked: _Asked) -> list[Axis] | None:
    axis = asked.axes[attribute(asked.node, "axis", 0)]
    sizes = _numbers(asked, 1)
    if sizes is None:
        count = len(asked.node.outputs)
        sizes = [axis.old // count] * count
    return operands.split_sizes(axis, sizes)
