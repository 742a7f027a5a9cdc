"""How far the answers of a rewritten model are from those of the model it was."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.core.errors import SkerryError
from skerry.core.seams import LoadOptions, Session, Tensors
from skerry.core.target import Target
from skerry.graph import Graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import output_distance
from skerry.tasks.sample import MemorySource, Sample

HOST = "onnxruntime"
FLOATS = frozenset({"bfloat16", "float16", "float32"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Mean relative squared errors of outputs, beside those of the model as it was.

    Attributes:
        samples: How many inputs were compared on.
        rewritten: Of the rewritten model; None where it was not run.
        quantized: Of the rewritten model as INT8; None where that was not asked.
        quantized_before: Of the model as it was, as INT8: what quantization loses
            whether or not anything is rewritten; None where it could not be run.
        missing: Why something was not compared; empty where all was.
    """

    samples: int
    rewritten: float | None
    quantized: float | None = None
    quantized_before: float | None = None
    missing: str = ""


def compare_answers(
    before: Graph, after: Graph, inputs: Sequence[Tensors], *, as_int8: bool
) -> Answers:
    """Run a model as it was and as it was rewritten, and compare the outputs.

    Args:
        before: The model as it was; its answers are right by definition.
        after: The rewritten one.
        inputs: Of single inferences, at least one; INT8 takes its ranges from them.
        as_int8: Whether both are compared as INT8 too, for hardware without floats.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:

        def load(graph: Graph, name: str) -> Session:
            model = write_graph(graph, Path(folder) / f"{name}.onnx")
            session = get_runtime(HOST).load(model, LoadOptions())
            return opened.enter_context(closing(session))

        try:
            right = [load(before, "before").run(one) for one in inputs]
            found = _distance(right, load(after, "after"), inputs)
        except SkerryError as error:
            return Answers(samples=0, rewritten=None, missing=error.what)
        if not as_int8:
            return Answers(samples=len(inputs), rewritten=found)
        missing = ""
        as_codes: dict[str, float | None] = {}
        for name, graph in (("after", after), ("before", before)):
            try:
                session = load(_quantized(graph, inputs), f"{name}-int8")
                as_codes[name] = _distance(right, session, inputs)
            except SkerryError as error:
                as_codes[name], missing = None, error.what
    return Answers(
        samples=len(inputs),
        rewritten=found,
        quantized=as_codes["after"],
        quantized_before=as_codes["before"],
        missing=missing,
    )


def wants_int8(graph: Graph, target: Target) -> bool:
    """Whether a model of floats runs on a target's first processor in integers only."""
    first = target.processors[0]
    dtypes = {dtype for rule in first.rules for dtype in rule.dtypes}
    is_quantized = any(node.op_type == "QuantizeLinear" for node in graph.nodes)
    return bool(dtypes) and not dtypes & FLOATS and not is_quantized


def _quantized(graph: Graph, inputs: Sequence[Tensors]) -> Graph:
    samples = MemorySource(
        samples=tuple(
            Sample(inputs=dict(one), label=None, name=f"sample {number}")
            for number, one in enumerate(inputs)
        )
    )
    context = StepContext(calibration=samples, runtime=get_runtime(HOST))
    return Quantize(operators="all").apply(graph, context)


def _distance(
    right: Sequence[Tensors], session: Session, inputs: Sequence[Tensors]
) -> float:
    distances = [
        output_distance(wanted, session.run(one))
        for wanted, one in zip(right, inputs, strict=True)
    ]
    return sum(distances) / len(distances)
