"""What in a plan costs more than it should: tensors, changes of layout, of dtype."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skerry.adapt.operators import BYTE_MOVERS, ELEMENTWISE, Operator
from skerry.adapt.plan import Plan, memory_pools
from skerry.adapt.rewrite.transposes import both


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeTensor:
    """A tensor that alone is more than the memory of the processor that holds it.

    Attributes:
        name: The tensor's.
        operator: The first operator that has it in hand.
        processor: Whose memory it is.
        size_bytes: In the dtype it is computed in.
        limit_bytes: What there is.
    """

    name: str
    operator: str
    processor: str
    size_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutChange:
    """A Transpose: bytes that move without anything being computed.

    Attributes:
        operator: The node's name.
        processor: Where it runs.
        permutation: Where it takes each dimension from.
        moved_bytes: Read and written; None where a size is not known.
        undone_by: A later Transpose that puts things back, with nothing but functions
            of each element between them; empty if there is none.
    """

    operator: str
    processor: str
    permutation: tuple[int, ...]
    moved_bytes: int | None
    undone_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DtypeTrouble:
    """An operator in a dtype that costs more than its neighbours'.

    Attributes:
        operator: The node's name.
        op_type: Its ONNX operator.
        dtype: What it computes in.
        why: What is wrong with that.
    """

    operator: str
    op_type: str
    dtype: str
    why: str


def large_tensors(plan: Plan) -> tuple[LargeTensor, ...]:
    """Find tensors that no schedule can make fit, the largest first."""
    limits = {
        member: (pool.name, int(pool.memory.value))
        for pool in memory_pools(plan.target)
        if pool.memory is not None and pool.memory.value is not None
        for member in pool.members
    }
    found: dict[str, LargeTensor] = {}
    for operator, name in zip(plan.workload.operators, plan.processors, strict=True):
        if name not in limits:
            continue
        owner, limit_bytes = limits[name]
        for tensor in operator.activations:
            size_bytes = tensor.size_bytes or 0
            if size_bytes > limit_bytes and tensor.name not in found:
                found[tensor.name] = LargeTensor(
                    name=tensor.name,
                    operator=operator.name,
                    processor=owner,
                    size_bytes=size_bytes,
                    limit_bytes=limit_bytes,
                )
    return tuple(sorted(found.values(), key=lambda one: -one.size_bytes))


def layout_changes(plan: Plan) -> tuple[LayoutChange, ...]:
    """List the Transposes, in order, and which of them undo one another."""
    operators = plan.workload.operators
    readers = _readers(operators)
    found = []
    for operator, name in zip(operators, plan.processors, strict=True):
        if operator.op_type != "Transpose":
            continue
        sizes = [tensor.size_bytes for tensor in operator.activations]
        known = [size for size in sizes if size is not None]
        found.append(
            LayoutChange(
                operator=operator.name,
                processor=name,
                permutation=_permutation(operator),
                moved_bytes=sum(known) if len(known) == len(sizes) else None,
                undone_by=_undone_by(operator, readers, plan.workload.results),
            )
        )
    return tuple(found)


def _permutation(operator: Operator) -> tuple[int, ...]:
    given = operator.attributes.get("perm")
    if isinstance(given, tuple):
        return tuple(int(place) for place in given)
    shape = operator.activations[0].shape or ()
    return tuple(range(len(shape)))[::-1]


def _readers(operators: Sequence[Operator]) -> dict[str, list[Operator]]:
    """What reads each tensor, by its name; an operator that does twice, once."""
    readers: dict[str, list[Operator]] = defaultdict(list)
    for operator in operators:
        for name in {one.name for one in operator.inputs if one is not None}:
            readers[name].append(operator)
    return readers


def _undone_by(
    operator: Operator, readers: Mapping[str, list[Operator]], results: frozenset[str]
) -> str:
    """Follow the one way out of a Transpose to one that puts things back."""
    permutation = _permutation(operator)
    current = operator
    while (made := current.outputs[0].name) not in results:
        read = readers.get(made, [])
        if len(read) != 1:
            return ""
        (current,) = read
        if current.op_type == "Transpose":
            other = _permutation(current)
            is_undone = both(permutation, other) == list(range(len(permutation)))
            return current.name if is_undone else ""
        if not current.is_standard or current.op_type not in ELEMENTWISE:
            return ""
    return ""


def dtype_troubles(plan: Plan) -> tuple[DtypeTrouble, ...]:
    """Find floats amid integers, integers of 64 bits, and types of two minds."""
    operators = plan.workload.operators
    makers = {
        tensor.name: operator for operator in operators for tensor in operator.outputs
    }
    readers = _readers(operators)
    found = []
    for operator in operators:
        before = [
            makers[one.name]
            for one in operator.inputs
            if one is not None and one.name in makers
        ]
        after = [
            reader for one in operator.outputs for reader in readers.get(one.name, ())
        ]
        if why := _trouble(operator, before, after):
            found.append(
                DtypeTrouble(
                    operator=operator.name,
                    op_type=operator.op_type,
                    dtype=operator.dtype,
                    why=why,
                )
            )
    return tuple(found)


def _trouble(operator: Operator, before: list[Operator], after: list[Operator]) -> str:
    around = {one.dtype for one in (*before, *after)}
    narrow = sorted(around & {"int8", "uint8", "int16"})
    if "float" in operator.dtype and narrow:
        whence = "between" if before and after else "beside"
        return f"computes in {operator.dtype} {whence} operators in {narrow[0]}"
    kinds = {
        tensor.dtype
        for tensor in operator.activations
        if tensor.dtype in {"int8", "uint8"}
    }
    if len(kinds) > 1:
        return "mixes signed and unsigned bytes"
    is_wide = operator.dtype in {"int64", "uint64", "float64"}
    if is_wide and operator.op_type not in BYTE_MOVERS:
        return f"computes in {operator.dtype}, which accelerators seldom take"
    return ""
