"""The only door to onnx and onnx-ir.

The rest of Skerry speaks of nodes and values through the names below; protobuf stays
behind this module, and so does each exception of the two libraries: what they raise
comes out as a `ModelError` with one line of reason.

A file passes through here as bytes, then as a decoded `Proto` on which the checks of
`skerry.graph.files` look, then as an `IrModel`, which `Graph` wraps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from skerry.core.errors import MissingExtraError, ModelError
from skerry.core.seams import Array
from skerry.graph.proto import is_text, proto_nodes
from skerry.graph.sizes import merge_sizes

try:
    import onnx
    import onnx.checker
    import onnx.defs
    import onnx.numpy_helper
    import onnx.reference
    import onnx.shape_inference
    import onnx.version_converter
    import onnx_ir as ir
    import onnx_ir.passes.common
    from onnx_ir import convenience, external_data, serde, traversal
except ImportError as error:
    raise MissingExtraError(error.name or "onnx", extra="compress") from error

IrModel = ir.Model
IrGraph = ir.Graph
Proto = onnx.ModelProto
Node = ir.Node
Value = ir.Value
Use = tuple[Node, int]
"""A node, and the index of its input."""

passes = onnx_ir.passes.common
AttributeValue = int | float | str | Sequence[int] | Sequence[float] | Sequence[str]

_DTYPE_NAMES = {"float32": "float", "float64": "double"}
"""Where ONNX calls a dtype otherwise than numpy does."""

EXTERNAL: int = onnx.TensorProto.EXTERNAL
"""Where a tensor lies that is in a file of its own."""

MAX_PROTOBUF_BYTES = 2**31 - 1
"""No protobuf message can be larger (protobuf encoding, "Size limits")."""

OLDEST_OPSET = 7
"""Operators broadcast as numpy does from here on; older models are refused."""

_IR_VERSION_OF_FREE_INITIALIZERS = 4
"""From here on an initializer need not be an input."""

_SHAPE_BYTES = 4096
"""Initializers larger than this cannot be operands of shape computations."""

AttributeT = TypeVar("AttributeT")

NEWEST_OPSET: int = onnx.defs.onnx_opset_version()
STANDARD_DOMAINS = frozenset({schema.domain for schema in onnx.defs.get_all_schemas()})
"""The domains whose operators the ONNX standard defines; empty is the main one."""


def make_node(
    op_type: str,
    inputs: Sequence[Value | None],
    attributes: Mapping[str, AttributeValue] | None = None,
    *,
    outputs: Sequence[Value | str] | None = None,
    name: str | None = None,
    domain: str = "",
) -> Node:
    """Make a node that is in no graph yet.

    Args:
        op_type: The operator.
        inputs: The values it reads; None for an optional input left out.
        attributes: Plain Python values by attribute name.
        outputs: The values it makes, or their names; one nameless when not given.
        name: The node's name.
        domain: The operator's domain; empty for the ONNX standard's.
    """
    made = None
    if outputs is not None:
        made = [ir.Value(name=one) if isinstance(one, str) else one for one in outputs]
    return ir.node(op_type, inputs, attributes, outputs=made, name=name, domain=domain)


def attribute(node: Node, name: str, default: AttributeT) -> AttributeT:
    """A node's attribute, or the default where it is left out.

    Args:
        node: The node.
        name: The attribute's name in the ONNX standard.
        default: What the standard says it then is; the attribute is of its type.
    """
    found = node.attributes.get(name)
    return default if found is None else cast("AttributeT", found.value)


def make_value(name: str, dtype: str, shape: Sequence[int | str | None]) -> Value:
    """Make a value of a numpy dtype and a shape, in no graph yet."""
    return ir.val(name, ir.DataType.from_numpy(np.dtype(dtype)), shape)


def make_initializer(array: Array, name: str, dtype: str | None = None) -> Value:
    """Make a constant value; it joins a graph by `Graph.add_initializer`.

    Args:
        array: What it holds.
        name: Its name.
        dtype: What it is stored as, where numpy has no such type: `int4` and `uint4`
            (two numbers a byte) or `bfloat16`; None for the array's own.
    """
    if dtype is not None:
        with np.errstate(over="ignore"):
            array = array.astype(ir.DataType[dtype.upper()].numpy())
    return ir.val(name, const_value=ir.tensor(array, name=name))


def constant_array(value: Value) -> Array | None:
    """Return what a value holds if it is an initializer or made by a Constant node.

    Raises:
        ModelError: The bytes of the tensor do not fit its dtype and shape, or the file
            that holds them cannot be read.
    """
    with foreign_errors(f"the tensor {value.name!r} cannot be read"):
        tensor = convenience.get_const_tensor(value)
        return None if tensor is None else np.asarray(tensor.numpy())


def dtype_name(value: Value) -> str | None:
    """The numpy dtype name of a tensor value; None when the model does not say."""
    if value.dtype is None or value.dtype == ir.DataType.UNDEFINED:
        return None
    return "str" if value.dtype.is_string() else value.dtype.numpy().name


def dims(value: Value) -> tuple[int | str | None, ...] | None:
    """The dimensions of a value: sizes, symbols, None; None when the rank is unknown.

    Exporters that know no size write `?`, an empty symbol or -1: all become None.
    """
    if value.shape is None:
        return None
    sizes: list[int | str | None] = []
    for dim in value.shape:
        if isinstance(dim, int):
            sizes.append(dim if dim >= 0 else None)
        else:
            sizes.append(None if dim.value in {None, "", "?"} else dim.value)
    return tuple(sizes)


def size_bytes(value: Value) -> int | None:
    """The bytes of a tensor; None when its dtype or a size is unknown, or it is text.

    Types of less than a byte are packed, as ONNX stores them.
    """
    sizes = dims(value)
    if value.dtype is None or value.dtype.is_string() or sizes is None:
        return None
    if value.dtype == ir.DataType.UNDEFINED:
        return None
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) < len(sizes):
        return None
    return math.ceil(math.prod(known) * value.dtype.itemsize)


def set_dtype(value: Value, dtype: str) -> None:
    """Give a tensor value a dtype: a numpy name, or `bfloat16`."""
    # Copies of a graph share the type: it is replaced, not changed.
    value.type = ir.TensorType(ir.DataType(dtype_code(dtype)))


def dtype_code(dtype: str) -> int:
    """The number of a dtype in ONNX files, as the attribute of a Cast has it."""
    return int(ir.DataType[_DTYPE_NAMES.get(dtype, dtype).upper()])


def places_for(node: Node, opset: int, dtype: str) -> tuple[set[int], set[int]]:
    """Which inputs and outputs of a node may hold a dtype, by the ONNX standard.

    Outputs count only where an input has the same type: what a Cast writes is not up
    to what it reads.

    Returns:
        Indices; none for an operator that the standard's opset does not know.
    """
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return set(), set()
    text = f"tensor({dtype})"
    free = {
        one.type_param_str
        for one in schema.type_constraints
        if text in one.allowed_type_strs
    }

    def types(formal: Sequence[Any], count: int) -> list[str]:
        # The last one may stand for any number of them.
        return [formal[min(i, len(formal) - 1)].type_str for i in range(count)]

    read = types(schema.inputs, len(node.inputs)) if schema.inputs else []
    written = types(schema.outputs, len(node.outputs)) if schema.outputs else []
    inputs = {index for index, one in enumerate(read) if one in free}
    shared = {read[index] for index in inputs}
    return inputs, {index for index, one in enumerate(written) if one in shared}


def set_dims(value: Value, sizes: Sequence[int | str | None]) -> None:
    """Give a value a shape."""
    value.shape = ir.Shape(sizes)


def subgraphs(node: Node) -> Iterator[IrGraph]:
    """The graphs in the attributes of a node (If, Loop, Scan)."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def walk(graph: IrGraph) -> Iterator[Node]:
    """All nodes of a graph and of the graphs inside it."""
    yield from traversal.RecursiveGraphIterator(graph)


def known_operator(op_type: str, opset: int) -> bool:
    """Whether the ONNX standard's opset has an operator of this name."""
    try:
        return not onnx.defs.get_schema(op_type, opset, "").deprecated
    except onnx.defs.SchemaError:
        return False


def operator_names() -> list[str]:
    """The names of all operators of the ONNX standard, sorted."""
    return sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""})


def decode(content: bytes, name: str) -> Proto:
    """Decode the bytes of an ONNX file; nothing of its sense is checked.

    Raises:
        ModelError: The bytes are not an ONNX model, or end too early.
    """
    with foreign_errors(f"{name} is not an ONNX model, or is damaged or cut short"):
        proto: Proto = onnx.ModelProto.FromString(content)
    if not proto.HasField("graph"):
        raise ModelError(
            f"{name} is not an ONNX model: no graph in it",
            hint="Give an .onnx file; other frameworks export to it.",
        )
    if not is_text(proto):
        raise ModelError(
            f"{name} is damaged: a name in it is not text",
            hint="Export or download the model again.",
        )
    with foreign_errors(f"{name} is damaged: a sparse tensor does not fit together"):
        _make_dense(proto)
    for named in (*proto.opset_import, *proto_nodes(proto.graph)):
        # The standard allows both names; its own checker knows but the empty one.
        if named.domain == "ai.onnx":
            named.domain = ""
    return proto


def _make_dense(proto: Proto) -> None:
    """Turn sparse initializers into plain ones: onnx-ir would drop them, in place.

    Raises:
        ValueError: The tensor would not fit into a file.
    """
    for sparse in proto.graph.sparse_initializer:
        values = onnx.numpy_helper.to_array(sparse.values)
        indices = onnx.numpy_helper.to_array(sparse.indices)
        shape = tuple(sparse.dims)
        if math.prod(shape) * values.itemsize > MAX_PROTOBUF_BYTES:
            raise ValueError(f"{sparse.values.name!r} is too large")
        if indices.ndim > 1:
            indices = np.ravel_multi_index(tuple(indices.T), shape)
        dense = np.zeros(math.prod(shape), values.dtype)
        dense[indices] = values
        proto.graph.initializer.append(
            onnx.numpy_helper.from_array(dense.reshape(shape), sparse.values.name)
        )
    del proto.graph.sparse_initializer[:]


def check(content: Proto | Path, name: str) -> None:
    """Check a model against the ONNX standard, external tensors too when it is a path.

    Raises:
        ModelError: It breaks a rule of the standard.
    """
    with foreign_errors(f"{name} breaks the ONNX standard"):
        onnx.checker.check_model(content)


def to_ir(proto: Proto, name: str, folder: Path | None) -> IrModel:
    """Turn a checked file into a model, in the one form that the rest expects.

    Functions are inlined, and initializers are no inputs.

    Args:
        proto: The decoded file.
        name: What messages call it.
        folder: Where its external tensors lie; None if there are none.

    Raises:
        ModelError: It uses what onnx-ir cannot hold.
    """
    with foreign_errors(f"{name} cannot be handled"):
        model = serde.deserialize_model(proto)
        if folder is not None:
            external_data.set_base_dir(model.graph, folder)
        passes.InlinePass()(model)
        passes.RemoveInitializersFromInputsPass()(model)
    model.ir_version = max(model.ir_version, _IR_VERSION_OF_FREE_INITIALIZERS)
    return model


def encode(model: IrModel) -> bytes:
    """Encode a model, weights included; the same model gives the same bytes.

    Raises:
        ModelError: It does not fit into one protobuf message.
    """
    if weight_bytes(model) > MAX_PROTOBUF_BYTES:
        raise ModelError(
            f"the weights take {weight_bytes(model):,} bytes; one ONNX file holds at "
            f"most {MAX_PROTOBUF_BYTES:,}",
            hint="Write it with skerry.graph.write_graph, which splits it.",
        )
    with foreign_errors("the graph cannot be written as ONNX"):
        if has_external_tensors(model):
            model = external_data.load_to_model(model.clone())
        return _serialize(model)


def _serialize(model: IrModel) -> bytes:
    content: bytes = serde.serialize_model(model).SerializeToString(deterministic=True)
    return content


def encode_weights(model: IrModel) -> bytes:
    """Return the bytes of all initializers of the main graph, one after another.

    Raises:
        ModelError: The bytes of a tensor cannot be read.
    """
    with foreign_errors("the weights cannot be read"):
        return b"".join(tensor.tobytes() for tensor in _numeric_tensors(model))


def encode_without_weights(model: IrModel, location: str) -> bytes:
    """Encode a model whose initializers are kept in a file.

    Args:
        model: The model.
        location: The name, beside the model, of a file that holds exactly what
            `encode_weights` returns.
    """
    model = model.clone()
    offset = 0
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype.is_string():
            continue
        value.const_value = ir.ExternalTensor(
            location,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=value.name or "",
        )
        offset += tensor.nbytes
    with foreign_errors("the graph cannot be written as ONNX"):
        return _serialize(model)


def weight_bytes(model: IrModel) -> int:
    """The bytes that the initializers of the main graph take."""
    return sum(tensor.nbytes for tensor in _numeric_tensors(model))


def _numeric_tensors(model: IrModel) -> Iterator[ir.TensorProtocol]:
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and not tensor.dtype.is_string():
            yield tensor


def has_external_tensors(model: IrModel) -> bool:
    """Whether some tensor lies in another file."""
    return next(_external_tensors(model), None) is not None


def external_files(model: IrModel) -> set[Path]:
    """The files that external tensors lie in."""
    return {Path(tensor.path) for tensor in _external_tensors(model)}


def _external_tensors(model: IrModel) -> Iterator[ir.ExternalTensor]:
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                yield value.const_value
    for node in walk(model.graph):
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.TENSOR and isinstance(
                attribute.value, ir.ExternalTensor
            ):
                yield attribute.value


def is_tensor(value: Value) -> bool:
    """Whether a value is a tensor, rather than a sequence, a map or an optional."""
    return value.type is None or isinstance(value.type, ir.TensorType)


def infer_value_shapes(model: IrModel, name: str) -> None:
    """Run ONNX shape inference with data propagation, in place.

    What the model says of the shapes inside it is not trusted where inference knows
    better (exporters leave wrong ones); it is kept where inference knows less.

    Raises:
        ModelError: An operator's inputs do not fit it.
    """
    light = model.clone()
    _leave_out_weights(light)
    # No inference is defined for classical learning's operators: what reads them would
    # be refused for having no type.
    is_strict = all(node.domain in ("", "ai.onnx") for node in walk(light.graph))
    # Propagation lists each element of a Range: a large one would take for ever.
    has_range = any(node.op_type == "Range" for node in walk(light.graph))
    for node in light.graph:
        if node.domain in STANDARD_DOMAINS:
            for value in node.outputs:
                value.shape = None
    with foreign_errors(f"the shapes in {name} do not fit together"):
        proto = onnx.shape_inference.infer_shapes(
            serde.serialize_model(light),
            strict_mode=is_strict,
            data_prop=not has_range,
        )
        inferred = serde.deserialize_model(proto)
    for graph, other in zip(model.graphs(), inferred.graphs(), strict=True):
        known = convenience.create_value_mapping(other, include_subgraphs=False)
        for node in graph:
            for value in node.outputs:
                if value.name in known:
                    _learn(value, known[value.name])


def _leave_out_weights(model: IrModel) -> None:
    """Make inputs of all initializers that are too large to be about shapes.

    Those that lie in another file too: ONNX's C++ would look for it.
    """
    initializers = model.graph.initializers
    for name, value in list(initializers.items()):
        tensor = value.const_value
        if tensor is not None and (
            tensor.nbytes > _SHAPE_BYTES or isinstance(tensor, ir.ExternalTensor)
        ):
            del initializers[name]
            value.const_value = None
            model.graph.inputs.append(value)


def _learn(value: Value, inferred: Value) -> None:
    if value.dtype is None and inferred.type is not None:
        value.type = inferred.type
    new = dims(inferred)
    if new is not None:
        set_dims(value, merge_sizes(dims(value), new))


def extract(model: IrModel, inputs: list[str], outputs: list[str]) -> IrModel:
    """Copy what lies between some values, which are named."""
    with foreign_errors("a part of the graph cannot be taken out"):
        part = convenience.extract(model.graph, inputs, outputs)
    return ir.Model(part, ir_version=model.ir_version)


def remove_unused(model: IrModel) -> None:
    """Remove nodes and initializers that no output depends on, in place.

    The pass of onnx-ir would also take a batch normalization in training out of it.
    """
    with foreign_errors("unused nodes cannot be removed"):
        _remove_dead_nodes(model.graph)
        for name, value in list(model.graph.initializers.items()):
            if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
                del model.graph.initializers[name]


def _remove_dead_nodes(graph: IrGraph) -> None:
    for node in reversed(graph):
        if not any(out.uses() or out.is_graph_output() for out in node.outputs):
            graph.remove(node, safe=True)
            continue
        for inner in subgraphs(node):
            _remove_dead_nodes(inner)


def lift_constants(model: IrModel) -> None:
    """Turn Constant nodes into initializers, in place."""
    with foreign_errors("the constants cannot be made initializers"):
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(
            model
        )


def convert_opset(model: IrModel, opset: int, name: str) -> IrModel:
    """Return the model in another opset, by ONNX's own version converter.

    Raises:
        ModelError: An operator cannot be converted.
    """
    light = model.clone()
    _leave_out_weights(light)
    with foreign_errors(f"{name} cannot be converted to ONNX opset {opset}"):
        proto = onnx.version_converter.convert_version(
            serde.serialize_model(light), opset
        )
        onnx.checker.check_model(proto)
        converted = serde.deserialize_model(proto)
    for value in list(converted.graph.inputs):
        weight = model.graph.initializers.get(value.name or "")
        if weight is not None:
            converted.graph.inputs.remove(value)
            value.const_value = weight.const_value
            converted.graph.register_initializer(value)
    oldest = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    converted.ir_version = max(model.ir_version, oldest)
    converted.metadata_props.update(model.metadata_props)
    return converted


def evaluate(node: Node, inputs: Mapping[str, Array], opset: int) -> list[Array]:
    """Compute a node on constant inputs with ONNX's reference implementation.

    Raises:
        ModelError: The reference implementation refused.
    """
    with foreign_errors(f"the {node.op_type} node {node.name!r} cannot be computed"):
        evaluator = onnx.reference.ReferenceEvaluator(
            serde.serialize_node(node), opsets={"": opset}
        )
        with np.errstate(all="ignore"):
            arrays = evaluator.run(None, dict(inputs))
        return [np.asarray(array) for array in arrays]


@contextmanager
def foreign_errors(what: str) -> Iterator[None]:
    """Turn whatever the two libraries raise into a `ModelError` of one line."""
    try:
        yield
    except ModelError:
        raise
    except MemoryError as error:
        raise ModelError(
            f"{what}: it asks for more memory than there is",
            hint="Export the model again, or use a machine with more memory.",
        ) from error
    except Exception as error:
        raise ModelError(
            f"{what}: {_first_line(error)}",
            hint="Export the model again, and check it with onnx.checker.",
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
