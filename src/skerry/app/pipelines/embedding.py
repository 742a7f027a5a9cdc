"""What a model's head reads: find it, show it, and learn what is usual of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from skerry.core.errors import DataError, ModelError
from skerry.core.model import Model
from skerry.core.seams import Array, LoadOptions, Runtime, Session, Tensors
from skerry.evolve.drift import make_reference, write_reference
from skerry.evolve.refit import Head
from skerry.graph import (
    Graph,
    Node,
    Value,
    attribute,
    infer_shapes,
    make_initializer,
    make_node,
    place_after,
    remove_dead,
)
from skerry.tasks.prediction import Label, Prediction
from skerry.tasks.samples import SampleSource
from skerry.tasks.task import Task

EMBEDDING = "embedding"
"""What the output is called that `with_embedding` adds."""

_PASSED_OVER = frozenset(
    {"Cast", "Flatten", "Identity", "LogSoftmax", "Reshape", "Softmax", "Squeeze"}
)
"""What may stand between the head and the model's output."""

_QUANTIZED = frozenset(
    {
        *("QuantizeLinear", "DequantizeLinear", "QLinearMatMul", "MatMulInteger"),
        *("QGemm", "QLinearAdd"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeadSite:
    """Where a model's head is.

    Attributes:
        node: The Gemm or MatMul.
        embedding: What it reads.
        weight: Its weights' value.
        bias: Its bias's value and who reads it, or None.
        is_transposed: Whether the weights are [classes, D] (else [D, classes]).
    """

    node: Node
    embedding: Value
    weight: Value
    bias: tuple[Value, Node] | None
    is_transposed: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What a model says of samples.

    Attributes:
        embeddings: float [N, D].
        predictions: One a sample.
        labels: What the samples are: their labels, None where not known.
    """

    embeddings: Array
    predictions: tuple[Prediction, ...]
    labels: tuple[Label | None, ...]

    @property
    def confidences(self) -> Array:
        """How sure the model is, float64 [N]."""
        return np.array([one.confidence for one in self.predictions])

    @property
    def classes(self) -> Array:
        """The predicted classes, int64 [N]; -1 where there are none."""
        return np.array(
            [
                one.label if isinstance(one.label, int) else -1
                for one in self.predictions
            ]
        )


def find_head(graph: Graph, *, output: str = "") -> HeadSite:
    """Find the float Gemm or MatMul that makes a classifier's scores.

    Args:
        graph: The model's graph.
        output: The output with the scores; the first one where empty.

    Raises:
        ModelError: There is no such output or no such head, its weights are not
            constant, or it is quantized.
    """
    outputs = {value.name: value for value in graph.output_values}
    value = outputs.get(output) if output else graph.output_values[0]
    if value is None:
        raise ModelError(
            f"{graph.name} has no output {output!r}", hint="Check the task's output."
        )
    addition: Node | None = None
    while (node := value.producer()) is not None:
        if node.op_type in {"Gemm", "MatMul"}:
            return _site(graph, node, addition)
        operands = [operand for operand in node.inputs if operand is not None]
        varying = [one for one in operands if graph.constant(one) is None]
        if node.op_type == "Add" and addition is None and len(varying) == 1:
            addition, value = node, varying[0]
        elif node.op_type in _PASSED_OVER and addition is None:
            value = operands[0]
        elif node.op_type in _QUANTIZED:
            raise _quantized(graph)
        else:
            break
    raise ModelError(
        f"{graph.name} has no Gemm or MatMul right behind its scores",
        hint="Only a model that ends in a linear layer can be watched and refitted.",
    )


def with_embedding(graph: Graph, *, output: str = "") -> Graph:
    """Return a copy that also gives what its head reads, as the output `embedding`.

    Args:
        graph: The model's graph; left as it was. If it has such an output already it
            stays as it is.
        output: The output with the scores; the first one where empty.

    Raises:
        ModelError: The model has no float head; see `find_head`.
    """
    watched = infer_shapes(graph)
    if any(value.name == EMBEDDING for value in watched.output_values):
        return watched
    site = find_head(watched, output=output)
    name = watched.unique_name(EMBEDDING)
    node = make_node("Identity", [site.embedding], outputs=[name], name=name)
    place_after(watched, site.embedding, [node])
    watched.add_outputs([name])
    return infer_shapes(watched)


def read_head(graph: Graph, site: HeadSite) -> Head:
    """The head's weights and bias."""
    weight = graph.constant(site.weight)
    if weight is None:
        raise _not_constant(graph)
    weight = weight if site.is_transposed else weight.T
    bias = np.zeros(len(weight), weight.dtype)
    if site.bias is not None:
        given = graph.constant(site.bias[0])
        if given is None:
            raise _not_constant(graph)
        bias = np.broadcast_to(given.reshape(-1), bias.shape).astype(weight.dtype)
    return Head(weight=np.array(weight), bias=bias)


def with_head(graph: Graph, head: Head, *, output: str = "") -> Graph:
    """Return a copy with other weights and bias in its head; the rest is untouched.

    Raises:
        ModelError: The model has no float head, or one without a bias, or of another
            size.
    """
    changed = graph.copy()
    site = find_head(changed, output=output)
    old = read_head(changed, site)
    if site.bias is None or old.weight.shape != head.weight.shape:
        raise ModelError(
            f"{graph.name}'s head is {old.weight.shape}, "
            f"{'without a bias' if site.bias is None else 'with a bias'}; expected "
            f"{head.weight.shape} with a bias",
            hint="Export the model with a bias in its last layer.",
        )
    weight = head.weight if site.is_transposed else head.weight.T
    value, reader = site.bias
    _replace(changed, site.node, site.weight, np.ascontiguousarray(weight))
    _replace(changed, reader, value, head.bias)
    return remove_dead(changed)


def ask(
    session: Session,
    samples: Iterable[tuple[Tensors, Label | None]],
    *,
    embedding: str,
    task: Task,
) -> Answers:
    """Run a model on samples, one at a time.

    Args:
        session: The loaded model.
        samples: Inputs with a batch axis of 1, and labels.
        embedding: The output with the embedding.
        task: How the scores are read.

    Raises:
        DataError: There are no samples, or one does not fit.
        ModelError: The model has no such output.
        RuntimeFailure: The runtime failed.
    """
    embeddings, predictions, labels = [], [], []
    for inputs, label in samples:
        outputs = session.run(inputs)
        if embedding not in outputs:
            raise ModelError(
                f"the model has no output {embedding!r}",
                hint="Release it with its embedding as an output.",
            )
        embeddings.append(outputs[embedding].reshape(-1))
        predictions.append(task.decode(outputs, inputs))
        labels.append(label)
    if not embeddings:
        raise DataError("there are no samples", hint="Give some.")
    return Answers(
        embeddings=np.stack(embeddings),
        predictions=tuple(predictions),
        labels=tuple(labels),
    )


def make_drift_blob(
    model: Model,
    samples: SampleSource,
    *,
    task: Task,
    runtime: Runtime,
    rng: np.random.Generator,
    embedding: str = EMBEDDING,
    threads: int = 1,
) -> bytes:
    """Make the drift reference (`skerry.drift/1`) that a release carries.

    Args:
        model: The model as it is released, with its embedding as an output.
        samples: Clean samples that the model was not trained on; a few hundred.
        task: How its scores are read.
        runtime: What runs it.
        rng: Chance.
        embedding: The output with the embedding.
        threads: CPU threads.

    Raises:
        DataError: There are fewer than 50 samples, or they do not fit.
        ModelError: The model has no such output.
        RuntimeFailure: The runtime failed.
    """
    session = runtime.load(model, LoadOptions(threads=threads))
    try:
        answers = ask(
            session,
            ((sample.inputs, sample.label) for sample in samples),
            embedding=embedding,
            task=task,
        )
    finally:
        session.close()
    reference = make_reference(
        answers.embeddings, answers.confidences, rng=rng, labels=answers.classes
    )
    return write_reference(reference)


def _site(graph: Graph, node: Node, addition: Node | None) -> HeadSite:
    embedding, weight = node.inputs[0], node.inputs[1]
    if embedding is None or weight is None:
        raise _not_constant(graph)
    # What the head reads may have been rounded before; it is its weights that change.
    producer = weight.producer()
    if producer is not None and producer.op_type in _QUANTIZED:
        raise _quantized(graph)
    array = graph.constant(weight)
    if array is None or array.ndim != 2 or array.dtype.kind != "f":
        raise _not_constant(graph)
    bias: tuple[Value, Node] | None = None
    if node.op_type == "Gemm":
        is_plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
        if not is_plain or attribute(node, "transA", 0):
            raise _not_constant(graph)
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            bias = node.inputs[2], node
    elif addition is not None:
        constants = [v for v in addition.inputs if graph.constant(v) is not None]
        bias = (constants[0], addition) if constants and constants[0] else None
    return HeadSite(
        node=node,
        embedding=embedding,
        weight=weight,
        bias=bias,
        is_transposed=node.op_type == "Gemm" and bool(attribute(node, "transB", 0)),
    )


def _replace(graph: Graph, reader: Node, old: Value, array: Array) -> None:
    """Let one node read another constant, in place where nobody else reads it."""
    new = make_initializer(array, graph.unique_name(f"{old.name}.refit"))
    if old.producer() is None and len(list(old.uses())) == 1:
        # Under its old name and in its old place, so that a delta stays small.
        old.const_value = new.const_value
        return
    reader.replace_input_with(
        list(reader.inputs).index(old), graph.add_initializer(new)
    )


def _quantized(graph: Graph) -> ModelError:
    return ModelError(
        f"the head of {graph.name} is quantized",
        hint="Compress the model again and keep its last layer in float (keep_float).",
    )


def _not_constant(graph: Graph) -> ModelError:
    return ModelError(
        f"the head of {graph.name} is no plain float layer with constant weights",
        hint="Export the model with a linear layer at its end.",
    )
